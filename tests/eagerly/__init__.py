"""Small programs chosen to hurt, run on autojit and compared with what torch gave (and with torch itself, where installed)."""
