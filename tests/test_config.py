"""Flags: what they may be, from the environment and by assignment."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest

import autojit as aj
from autojit.config import config


@pytest.mark.parametrize("variable, flag, values, least", [
    ("AUTOJIT_WORKERS", "workers", ["-1", "two", "1.5"], 0),
    ("AUTOJIT_NUM_THREADS", "num_threads", ["0", "-3", "abc"], 1),
    ("AUTOJIT_DEBUG", "debug", ["-1", "yes"], 0),
])
def test_flags_refuse_what_makes_no_sense(monkeypatch, variable, flag, values, least):
    words = f"{variable} must be a whole number, {least} or more, not "
    try:
        for value in values:
            monkeypatch.setenv(variable, value)
            with pytest.raises(ValueError, match=re.escape(words + repr(value))):
                config.reset()
        for wrong in (least - 1, 2.5, None, "x"):
            with pytest.raises(ValueError, match=re.escape(words + repr(wrong))):
                setattr(aj.config, flag, wrong)
        for right in (least, np.int64(3), "2"):
            setattr(aj.config, flag, right)
            assert getattr(aj.config, flag) == int(right)
        monkeypatch.setenv(variable, str(least))
        config.reset()
        assert getattr(config, flag) == least
    finally:
        monkeypatch.delenv(variable, raising=False)
        config.reset()


def test_a_process_with_a_wrong_flag_says_which():
    done = subprocess.run([sys.executable, "-c", "import autojit"], capture_output=True, text=True, timeout=60,
                          env={**os.environ, "AUTOJIT_NUM_THREADS": "abc"})
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == ("ValueError: AUTOJIT_NUM_THREADS must be a whole number, 1 or more, "
                                            "not 'abc'")
