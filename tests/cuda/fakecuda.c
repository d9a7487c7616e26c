/* libcuda.so.1 and libcublas.so.13 without a GPU, for tests of the real driver's code.
 *
 * Device memory is the host's, with bounds.  A stream does nothing until somebody waits, or copies to memory that is not
 * pinned: whoever reads too early, or writes too early what a copy from pinned memory reads, sees it.  While it is captured,
 * its work is written down; a graph is that.  Kernels are not run here: `fake_hook` names a function that gets each launch, with
 * its arguments as they were when the launch was asked for.  Both libraries are this one file, and share the stream.
 *
 * What is wrong is an error of CUDA's, or, where CUDA would do nothing about it, the error 999 and a line in the log. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef int Result;
typedef uint64_t Ptr;
enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_CONTEXT = 201, BAD_HANDLE = 400, NOT_FOUND = 500, ILLEGAL_ADDRESS = 700,
       NOT_READY = 600, CAPTURE_UNSUPPORTED = 900, UPDATE_FAILURE = 910, UNKNOWN = 999 };
enum { KERNEL = 1, COPY, FILL, PRODUCT, IN, OUT, FREE, MARK };
enum { MANY = 4096, ARGS = 64 };

typedef struct { int64_t op1, op2, m, n, k, a, lda, sa, b, ldb, sb, c, ldc, sc, batch; double alpha, beta; int type; } Product;
typedef struct { double time; int asked, passed; } Event;
typedef struct Kernel { char name[256]; int count; int sizes[ARGS]; } Kernel;
typedef struct { int kind; Kernel *kernel; unsigned blocks, threads; uint64_t args[ARGS]; Ptr dst, src; size_t bytes; int byte;
                 Product product; void *kept; Event *event; } Node;
typedef struct Graph { Node *nodes; int count, room, alive; } Graph;

typedef struct { Ptr start; size_t bytes; int live; } Region;
static Region memory[MANY], pinned[MANY];
static int regions, pinned_regions;
static size_t used, total = 1u << 30;
static Kernel kernels[MANY];
static int kernel_count;
static Graph *capture, stream;                            /* what is captured; what waits to be done */
static Result late;                                       /* the first error of work that was done after its call */
static int stream_object, context_object, pool_object, module_object, blas_object;
static __thread void *context;
static char lines[1 << 20];
static size_t written;
static void (*hook)(const char *, unsigned, unsigned, void **);

static void note(const char *format, ...) {
    va_list list;
    va_start(list, format);
    if (written < sizeof lines - 512) written += vsnprintf(lines + written, 512, format, list);
    va_end(list);
}

#define EXPORT __attribute__((visibility("default")))
#define NEED(test, error) do { if (!(test)) { note("error %s: %s\n", __func__, #test); return error; } } while (0)
#define READY NEED(context == &context_object, NO_CONTEXT)
#define STREAM(s) READY; NEED((s) == (void *)&stream_object, BAD_HANDLE)
#define NOW(s) STREAM(s); NEED(!capture, CAPTURE_UNSUPPORTED)

/* ------------------------------------------------------------------ for the tests */
EXPORT const char *fake_log(void) { return lines; }
EXPORT void fake_hook(void (*f)(const char *, unsigned, unsigned, void **)) { hook = f; }
EXPORT void fake_memory(size_t bytes) { total = bytes; }
EXPORT size_t fake_used(void) { return used; }

/* The bytes of each parameter, which a real driver reads out of the cubin. */
EXPORT void fake_kernel(const char *name, int count, const int *sizes) {
    Kernel *k = &kernels[kernel_count++];
    snprintf(k->name, sizeof k->name, "%s", name);
    k->count = count;
    memcpy(k->sizes, sizes, count * sizeof(int));
}

/* ------------------------------------------------------------------ work */
static int region(Ptr p, size_t n) {
    for (int i = 0; i < regions; i++)
        if (memory[i].live && p >= memory[i].start && p + n <= memory[i].start + memory[i].bytes) return 1;
    return n == 0;
}

static int is_pinned(const void *p) {
    for (int i = 0; i < pinned_regions; i++)
        if ((Ptr)p >= pinned[i].start && (Ptr)p < pinned[i].start + pinned[i].bytes) return 1;
    return 0;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e3 + t.tv_nsec * 1e-6;
}

static void multiply(const Product *p) {
    for (int64_t t = 0; t < p->batch; t++)
        for (int64_t i = 0; i < p->m; i++)
            for (int64_t j = 0; j < p->n; j++) {
                double sum = 0;
                for (int64_t q = 0; q < p->k; q++) {
                    int64_t x = t * p->sa + (p->op1 ? i * p->lda + q : q * p->lda + i);
                    int64_t y = t * p->sb + (p->op2 ? q * p->ldb + j : j * p->ldb + q);
                    sum += p->type ? ((double *)p->a)[x] * ((double *)p->b)[y] : ((float *)p->a)[x] * ((float *)p->b)[y];
                }
                int64_t z = t * p->sc + j * p->ldc + i;
                if (p->type) ((double *)p->c)[z] = p->alpha * sum + (p->beta ? p->beta * ((double *)p->c)[z] : 0);
                else ((float *)p->c)[z] = p->alpha * sum + (p->beta ? p->beta * ((float *)p->c)[z] : 0);
            }
}

static Result done(const Node *n) {
    if (n->kind == KERNEL) {
        void *params[ARGS];
        for (int i = 0; i < n->kernel->count; i++) params[i] = (void *)&n->args[i];
        if (hook) hook(n->kernel->name, n->blocks, n->threads, params);
        return OK;
    }
    if (n->kind == PRODUCT) {
        multiply(&n->product);
        return OK;
    }
    if (n->kind == FREE) {
        memory[n->byte].live = 0;                         /* kept, so that the address is nobody else's */
        return OK;
    }
    if (n->kind == MARK) {
        n->event->time = now();
        n->event->passed = n->event->asked;
        return OK;
    }
    NEED(n->kind == OUT || region(n->dst, n->bytes), ILLEGAL_ADDRESS);
    NEED(n->kind == FILL || n->kind == IN || region(n->src, n->bytes), ILLEGAL_ADDRESS);
    if (n->kind == FILL) memset((void *)n->dst, n->byte, n->bytes);
    else memmove((void *)n->dst, (void *)n->src, n->bytes);
    free(n->kept);
    return OK;
}

static void add(Graph *g, const Node *n) {
    if (g->count == g->room) {
        g->room = g->room * 2 + 16;
        g->nodes = realloc(g->nodes, g->room * sizeof(Node));
    }
    g->nodes[g->count++] = *n;
}

static Result work(Node n) {
    add(capture ? capture : &stream, &n);
    return OK;
}

/* Somebody waits. */
static Result drained(void) {
    for (int i = 0; i < stream.count; i++) {
        Result r = done(&stream.nodes[i]);
        if (r && !late) late = r;
    }
    stream.count = 0;
    Result r = late;
    late = OK;
    return r;
}

/* ------------------------------------------------------------------ memory */
EXPORT Result cuMemPoolCreate(void **pool, const void *props) { READY; NEED(props, INVALID_VALUE); *pool = &pool_object; return OK; }
EXPORT Result cuMemPoolSetAttribute(void *pool, int which, void *value) { NEED(pool == &pool_object, BAD_HANDLE); return OK; }
EXPORT Result cuMemPoolTrimTo(void *pool, size_t keep) { NEED(pool == &pool_object, BAD_HANDLE); note("trim\n"); return OK; }
EXPORT Result cuMemPoolGetAttribute(void *pool, int which, void *value) {
    NEED(pool == &pool_object, BAD_HANDLE);
    *(uint64_t *)value = used;
    return OK;
}

EXPORT Result cuMemAllocFromPoolAsync(Ptr *p, size_t n, void *pool, void *s) {
    NOW(s);
    NEED(pool == &pool_object, BAD_HANDLE);
    NEED(n > 0, INVALID_VALUE);
    if (used + n > total) return OUT_OF_MEMORY;
    NEED(regions < MANY, UNKNOWN);
    void *fresh = aligned_alloc(256, (n + 255) / 256 * 256);
    memset(fresh, 0xFF, n);
    memory[regions++] = (Region){*p = (Ptr)fresh, n, 1};
    used += n;
    note("alloc %zu\n", n);
    return OK;
}

EXPORT Result cuMemFreeAsync(Ptr p, void *s) {
    NOW(s);
    for (int i = 0; i < regions; i++)
        if (memory[i].live == 1 && memory[i].start == p) {
            memory[i].live = 2;                           /* what was asked for before may still use it */
            used -= memory[i].bytes;
            note("free %zu\n", memory[i].bytes);
            return work((Node){.kind = FREE, .byte = i});
        }
    NEED(!"a live allocation", INVALID_VALUE);
    return OK;
}

EXPORT Result cuMemHostAlloc(void **p, size_t n, unsigned flags) {
    NOW(&stream_object);
    NEED(pinned_regions < MANY, UNKNOWN);
    *p = memset(malloc(n), 0xFF, n);
    pinned[pinned_regions++] = (Region){(Ptr)*p, n, 1};
    note("pinned %zu\n", n);
    return OK;
}
EXPORT Result cuMemGetInfo(size_t *free_, size_t *all) { READY; *free_ = total - used; *all = total; return OK; }

EXPORT Result cuMemcpyHtoDAsync(Ptr d, const void *h, size_t n, void *s) {
    NOW(s);
    NEED(region(d, n), ILLEGAL_ADDRESS);
    note("in %zu\n", n);
    void *kept = is_pinned(h) ? NULL : memcpy(malloc(n + 1), h, n);
    return work((Node){.kind = IN, .dst = d, .src = kept ? (Ptr)kept : (Ptr)h, .bytes = n, .kept = kept});
}

EXPORT Result cuMemcpyDtoHAsync(void *h, Ptr d, size_t n, void *s) {
    NOW(s);
    NEED(region(d, n), ILLEGAL_ADDRESS);
    note("out %zu\n", n);
    work((Node){.kind = OUT, .dst = (Ptr)h, .src = d, .bytes = n});
    return is_pinned(h) ? OK : drained();
}

EXPORT Result cuMemcpyDtoDAsync(Ptr d, Ptr from, size_t n, void *s) {
    STREAM(s);
    note("copy %zu\n", n);
    return work((Node){.kind = COPY, .dst = d, .src = from, .bytes = n});
}

EXPORT Result cuMemsetD8Async(Ptr d, unsigned char byte, size_t n, void *s) {
    STREAM(s);
    note("fill %zu\n", n);
    return work((Node){.kind = FILL, .dst = d, .byte = byte, .bytes = n});
}

/* ------------------------------------------------------------------ kernels */
EXPORT Result cuModuleLoadData(void **m, const void *image) {
    READY;
    NEED(!memcmp(image, "\177ELF", 4), INVALID_VALUE);
    note("module\n");
    *m = &module_object;
    return OK;
}

EXPORT Result cuModuleGetFunction(void **f, void *m, const char *name) {
    READY;
    NEED(m == &module_object, BAD_HANDLE);
    for (int i = 0; i < kernel_count; i++)
        if (!strcmp(kernels[i].name, name)) {
            *f = &kernels[i];
            return OK;
        }
    return NOT_FOUND;
}

EXPORT Result cuLaunchKernel(void *f, unsigned x, unsigned y, unsigned z, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                             void *s, void **params, void **extra) {
    STREAM(s);
    Kernel *k = f;
    NEED(k >= kernels && k < kernels + kernel_count, BAD_HANDLE);
    NEED(x > 0 && y == 1 && z == 1 && bx > 0 && bx <= 1024 && by == 1 && bz == 1, INVALID_VALUE);
    NEED(params || !k->count, INVALID_VALUE);
    Node n = {.kind = KERNEL, .kernel = k, .blocks = x, .threads = bx};
    for (int i = 0; i < k->count; i++) memcpy(&n.args[i], params[i], k->sizes[i]);
    note("launch %s %u %u%s\n", k->name, x, bx, capture ? " captured" : "");
    return work(n);
}

/* ------------------------------------------------------------------ graphs */
EXPORT Result cuStreamBeginCapture(void *s, int mode) {
    NOW(s);
    capture = calloc(1, sizeof(Graph));
    note("begin\n");
    return OK;
}

EXPORT Result cuStreamEndCapture(void *s, void **graph) {
    STREAM(s);
    NEED(capture, 901);
    capture->alive = 1;
    note("end %d\n", capture->count);
    *graph = capture;
    capture = NULL;
    return OK;
}

static Graph *copied(const Graph *g, Graph *to) {
    to->nodes = memcpy(malloc(g->count * sizeof(Node) + 1), g->nodes, g->count * sizeof(Node));
    to->count = g->count;
    to->alive = 1;
    return to;
}

EXPORT Result cuGraphInstantiateWithFlags(void **made, void *graph, unsigned long long flags) {
    READY;
    NEED(graph && ((Graph *)graph)->alive, BAD_HANDLE);
    *made = copied(graph, calloc(1, sizeof(Graph)));
    note("instantiate %d\n", ((Graph *)graph)->count);
    return OK;
}

/* The same kinds of work with the same kernels, as CUDA wants it. */
EXPORT Result cuGraphExecUpdate(void *made, void *graph, void *info) {
    READY;
    Graph *old = made, *new = graph;
    NEED(old->alive && new->alive, BAD_HANDLE);
    int same = old->count == new->count;
    for (int i = 0; same && i < old->count; i++)
        same = old->nodes[i].kind == new->nodes[i].kind && old->nodes[i].kernel == new->nodes[i].kernel;
    note("update %s\n", same ? "done" : "refused");
    if (!same) return UPDATE_FAILURE;
    free(old->nodes);
    copied(new, old);
    return OK;
}

static Result dropped(Graph *g) {
    NEED(g && g->alive, BAD_HANDLE);
    free(g->nodes);
    g->nodes = NULL;
    g->alive = 0;                                         /* the handle stays, so that its use is an error */
    return OK;
}

EXPORT Result cuGraphDestroy(void *g) { READY; return dropped(g); }
EXPORT Result cuGraphExecDestroy(void *g) { READY; note("drop\n"); return dropped(g); }
EXPORT Result cuGraphUpload(void *g, void *s) { NOW(s); NEED(((Graph *)g)->alive, BAD_HANDLE); return OK; }
EXPORT Result cuGraphLaunch(void *graph, void *s) {
    NOW(s);
    Graph *g = graph;
    NEED(g->alive, BAD_HANDLE);
    note("replay %d\n", g->count);
    for (int i = 0; i < g->count; i++) add(&stream, &g->nodes[i]);
    return OK;
}

/* ------------------------------------------------------------------ streams, events */
EXPORT Result cuStreamCreate(void **s, unsigned flags) { READY; *s = &stream_object; return OK; }
EXPORT Result cuStreamSynchronize(void *s) { NOW(s); note("synchronize\n"); return drained(); }
EXPORT Result cuCtxSynchronize(void) { NOW(&stream_object); note("synchronize\n"); return drained(); }
EXPORT Result cuStreamWaitEvent(void *s, void *event, unsigned flags) {
    READY;
    NEED(event && ((Event *)event)->asked, INVALID_VALUE);
    note("wait %s\n", s == &stream_object ? "ours" : "other");
    return OK;
}

EXPORT Result cuEventCreate(void **event, unsigned flags) { READY; *event = calloc(1, sizeof(Event)); return OK; }
EXPORT Result cuEventDestroy(void *event) { return OK; }  /* kept: the stream may have it still */
EXPORT Result cuEventRecord(void *event, void *s) {
    READY;
    NEED(!capture, CAPTURE_UNSUPPORTED);
    ((Event *)event)->asked++;
    return s == &stream_object ? work((Node){.kind = MARK, .event = event}) : done(&(Node){.kind = MARK, .event = event});
}

EXPORT Result cuEventQuery(void *event) {
    READY;
    Event *e = event;
    NEED(e->asked, BAD_HANDLE);
    return e->passed == e->asked ? OK : NOT_READY;
}

EXPORT Result cuEventSynchronize(void *event) {
    READY;
    NEED(((Event *)event)->asked, BAD_HANDLE);
    note("wait for a mark\n");
    return drained();
}

EXPORT Result cuEventElapsedTime(float *ms, void *start, void *end) {
    Event *a = start, *b = end;
    NEED(a->asked && b->asked, BAD_HANDLE);
    if (a->passed != a->asked || b->passed != b->asked) return NOT_READY;
    *ms = b->time - a->time;
    return OK;
}

/* ------------------------------------------------------------------ the device */
EXPORT Result cuInit(unsigned flags) { return OK; }
EXPORT Result cuDriverGetVersion(int *v) { *v = 13000; return OK; }
EXPORT Result cuDeviceGetCount(int *n) { *n = 1; return OK; }
EXPORT Result cuDeviceGet(int *dev, int k) { NEED(k == 0, 101); *dev = 0; return OK; }
EXPORT Result cuDeviceGetName(char *name, int n, int dev) { snprintf(name, n, "Fake H100"); return OK; }
EXPORT Result cuDeviceTotalMem(size_t *n, int dev) { *n = total; return OK; }
EXPORT Result cuDeviceGetAttribute(int *v, int which, int dev) {
    *v = which == 75 ? 9 : which == 16 ? 132 : which == 76 ? 0 : 1;
    return OK;
}
EXPORT Result cuDevicePrimaryCtxRetain(void **c, int dev) { *c = &context_object; return OK; }
EXPORT Result cuCtxSetCurrent(void *c) { NEED(c == &context_object, 201); context = c; return OK; }
EXPORT Result cuCtxGetCurrent(void **c) { *c = context; return OK; }

EXPORT Result cuGetErrorName(Result r, const char **name) {
    *name = r == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : r == CAPTURE_UNSUPPORTED ? "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"
          : r == ILLEGAL_ADDRESS ? "CUDA_ERROR_ILLEGAL_ADDRESS" : r == BAD_HANDLE ? "CUDA_ERROR_INVALID_HANDLE"
          : r == NOT_FOUND ? "CUDA_ERROR_NOT_FOUND" : r == NOT_READY ? "CUDA_ERROR_NOT_READY"
          : r == NO_CONTEXT ? "CUDA_ERROR_INVALID_CONTEXT" : "CUDA_ERROR_INVALID_VALUE";
    return OK;
}
EXPORT Result cuGetErrorString(Result r, const char **text) { *text = "as the fake driver says"; return OK; }

EXPORT Result cuGetProcAddress_v2(const char *name, void **f, int version, uint64_t flags, int *status) {
    static void *self;
    if (!self) {
        Dl_info info;
        dladdr((void *)cuInit, &info);
        self = dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    }
    *f = strcmp(name, "cuGetProcAddress") ? dlsym(self, name) : (void *)cuGetProcAddress_v2;
    if (status) *status = *f ? 0 : 1;
    return *f ? OK : NOT_FOUND;
}
EXPORT Result cuGetProcAddress(const char *name, void **f, int version, uint64_t flags) {
    return cuGetProcAddress_v2(name, f, version, flags, NULL);
}

/* ------------------------------------------------------------------ cuBLAS */
static int blas_stream, blas_room;

EXPORT int cublasCreate_v2(void **h) { NEED(!capture && context, 1); *h = &blas_object; return OK; }
EXPORT int cublasSetStream_v2(void *h, void *s) { NEED(s == &stream_object, 7); blas_stream = 1; blas_room = 0; return OK; }
EXPORT int cublasSetWorkspace_v2(void *h, void *p, size_t n) { NEED(region((Ptr)p, n), 7); blas_room = 1; return OK; }
EXPORT int cublasGemmStridedBatchedEx_64(void *h, int op1, int op2, int64_t m, int64_t n, int64_t k, const void *alpha,
        const void *a, int ta, int64_t lda, int64_t sa, const void *b, int tb, int64_t ldb, int64_t sb, const void *beta,
        void *c, int tc, int64_t ldc, int64_t sc, int64_t batch, int compute, int algorithm) {
    NEED(h == &blas_object && blas_stream && blas_room, 1);
    NEED(ta == tb && tb == tc && (ta == 0 || ta == 1), 15);
    NEED(compute == (ta ? 70 : 68) || (!ta && compute == 77), 15);
    NEED(lda >= (op1 ? k : m) && ldb >= (op2 ? n : k) && ldc >= m, 7);
    size_t size = ta ? 8 : 4;
    NEED(region((Ptr)a, ((batch - 1) * sa + ((op1 ? m : k) - 1) * lda + (op1 ? k : m)) * size), 13);
    NEED(region((Ptr)b, ((batch - 1) * sb + ((op2 ? k : n) - 1) * ldb + (op2 ? n : k)) * size), 13);
    NEED(region((Ptr)c, ((batch - 1) * sc + (n - 1) * ldc + m) * size), 13);
    note("gemm %ld %ld %ld x %ld compute %d%s\n", (long)m, (long)n, (long)k, (long)batch, compute, capture ? " captured" : "");
    return work((Node){.kind = PRODUCT, .product = {op1, op2, m, n, k, (int64_t)a, lda, sa, (int64_t)b, ldb, sb, (int64_t)c, ldc,
        sc, batch, ta ? *(double *)alpha : *(float *)alpha, ta ? *(double *)beta : *(float *)beta, ta}});
}
