/* One read of an operand, on Python's stable ABI: events, non-zeros per time step, level sums and
 * extremes. The contract is that of snnprof/counting/scan.py, whose torch implementation is this
 * one's oracle. Magnitudes are compared on their bits, as whole numbers, so that every loop
 * becomes vector instructions. */
#define Py_LIMITED_API 0x030b0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if !defined(_WIN32)
#include <pthread.h>
#define THREADS 8
#else
#define THREADS 1
#endif

/* Wider vector instructions where the processor has them. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define WIDE __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define WIDE
#endif

#define BLOCK 2048
#define PIECE 65536 /* elements that a thread takes at a time */
#define KEEP_GIL 16384 /* to let it go and fetch it again takes as long as so many elements */
#define SIGN_OFF 0x7fffffffu
#define INFINITE 0x7f800000
#define LEVELS 64
#define NEAR (1.0 / 524288) /* twice SPREAD of results/values.py */

enum { SPIKES, EXACT, ODD, REAL }; /* what is known: a height, an exact unit, a unit, nothing */
enum { F32, F64, F16, BF16, I8, U8, I16, I32, I64 };

typedef struct { /* the question; the same for all threads */
  const char *x;
  const int32_t *f; /* NULL: all 1 */
  int64_t segments, steps, n, tile, f_stride, block;
  double unit;
  int type, tier;
} Ask;

typedef struct {
  int64_t events, levels, *nonzeros;
  int32_t least, largest;
  uint32_t negative;
  double low, high, misfit; /* misfit: a magnitude that does not fit; 0 where all do */
  int tier, inexact;        /* inexact: values that no float32 holds */
} Found;

static const int SIZES[] = {4, 8, 2, 2, 1, 1, 2, 4, 8};

static float as_float(uint32_t bits) { float x; memcpy(&x, &bits, 4); return x; }
static int32_t bits_of(float x) { int32_t b; memcpy(&b, &x, 4); return b; }

/* A block as the bits of float32; of real values only whether they are 0, and finite. */
#define CONVERT(TYPE)                                                                             \
  do {                                                                                            \
    const TYPE *y = (const TYPE *)x;                                                              \
    int lost = 0;                                                                                 \
    for (int64_t p = 0; p < n; p++) {                                                             \
      double d = (double)y[p];                                                                    \
      float v = tier == REAL ? (d - d != 0 ? INFINITY : d != 0) : (float)d;                       \
      lost |= tier != REAL && d - d == 0 && (double)v != d;                                       \
      into[p] = bits_of(v);                                                                       \
    }                                                                                             \
    *inexact |= lost;                                                                             \
  } while (0)

static const int32_t *load(const char *x, int type, int tier, int64_t n, int32_t *into,
                           int *inexact) {
  switch (type) {
  case F32: return (const int32_t *)x;
  case F64: CONVERT(double); break;
  case I8: CONVERT(int8_t); break;
  case U8: CONVERT(uint8_t); break;
  case I16: CONVERT(int16_t); break;
  case I32: CONVERT(int32_t); break;
  case I64: CONVERT(int64_t); break;
  case BF16:
    for (int64_t p = 0; p < n; p++) into[p] = (int32_t)((uint32_t)((const uint16_t *)x)[p] << 16);
    break;
  case F16:
    for (int64_t p = 0; p < n; p++) {
      uint32_t h = ((const uint16_t *)x)[p], rest = h & 0x7fffu;
      uint32_t b = (uint32_t)bits_of(as_float(rest << 13) * 0x1p112f); /* subnormals too */
      into[p] = (int32_t)((rest >= 0x7c00u ? INFINITE | rest << 13 : b) | (h & 0x8000u) << 16);
    }
  }
  return into;
}

/* Each tier reads one block; f is NULL or the block's fan-out. False where a value does not fit. */
#define EACH for (int64_t p = 0; p < n; p++)
#define MASK (int32_t) - ((b[p] & SIGN_OFF) != 0)

WIDE static int spikes(const int32_t *b, const int32_t *f, int64_t n, double unit, Found *to, int64_t *nz) {
  int32_t c = bits_of((float)unit), events = 0, count = 0, bad = 0, negative = 0;
  EACH {
    int32_t m = MASK;
    bad |= (int32_t)(b[p] & SIGN_OFF) ^ (m & c);
    negative |= b[p] & m;
    events += m & (f ? f[p] : 1);
    count -= m;
  }
  if (bad) return 0;
  to->events += events, to->levels += events, *nz += count;
  to->negative |= (uint32_t)negative >> 31;
  if (count) {
    to->least = c < to->least ? c : to->least;
    to->largest = c > to->largest ? c : to->largest;
  }
  return 1;
}

WIDE static int exact(const int32_t *b, const int32_t *f, int64_t n, double unit, Found *to, int64_t *nz) {
  const float u = (float)unit, inverse = 1.0f / u, most = (LEVELS + 0.5f) * u, round = 12582912.0f;
  int32_t events = 0, levels = 0, count = 0, bad = 0, negative = 0;
  int32_t least = SIGN_OFF, largest = 0;
  EACH {
    int32_t m = MASK, a = (int32_t)(b[p] & SIGN_OFF);
    float v = as_float((uint32_t)a), k = (v * inverse + round) - round;
    bad |= !(k * u == v) | !(v <= most);
    levels += (int32_t)k * (f ? f[p] : 1);
    events += m & (f ? f[p] : 1);
    count -= m;
    negative |= b[p] & m;
    int32_t low = a | (~m & (int32_t)SIGN_OFF);
    least = low < least ? low : least;
    largest = a > largest ? a : largest;
  }
  if (bad) return 0;
  to->events += events, to->levels += levels, *nz += count;
  to->negative |= (uint32_t)negative >> 31;
  to->least = least < to->least ? least : to->least;
  to->largest = largest > to->largest ? largest : to->largest;
  return 1;
}

WIDE static int odd(const int32_t *b, const int32_t *f, int64_t n, double unit, Found *to, int64_t *nz) {
  const double inverse = 1 / unit, round = 6755399441055744.0;
  int64_t events = 0, levels = 0, count = 0;
  int32_t bad = 0, negative = 0, least = SIGN_OFF, largest = 0;
  double low = INFINITY, high = 0;
  EACH {
    int32_t m = MASK, a = (int32_t)(b[p] & SIGN_OFF);
    double v = as_float((uint32_t)a), k = (v * inverse + round) - round;
    bad |= !(fabs(v - k * unit) <= NEAR * v) | !(k <= LEVELS);
    double estimate = v / (m ? k : 1);
    high = estimate > high ? estimate : high;
    estimate = m ? estimate : INFINITY;
    low = estimate < low ? estimate : low;
    levels += (int64_t)k * (f ? f[p] : 1);
    events += m & (f ? f[p] : 1);
    count -= m;
    negative |= b[p] & m;
    int32_t lower = m ? a : (int32_t)SIGN_OFF;
    least = lower < least ? lower : least;
    largest = a > largest ? a : largest;
  }
  if (bad) return 0;
  to->events += events, to->levels += levels, *nz += count;
  to->negative |= (uint32_t)negative >> 31;
  to->least = least < to->least ? least : to->least;
  to->largest = largest > to->largest ? largest : to->largest;
  to->low = low < to->low ? low : to->low;
  to->high = high > to->high ? high : to->high;
  return 1;
}

WIDE static int real(const int32_t *b, const int32_t *f, int64_t n, double unit, Found *to, int64_t *nz) {
  int32_t events = 0, count = 0, largest = 0;
  (void)unit;
  EACH {
    int32_t m = MASK, a = (int32_t)(b[p] & SIGN_OFF);
    events += m & (f ? f[p] : 1);
    count -= m;
    largest = a > largest ? a : largest;
  }
  to->events += events, *nz += count;
  to->largest = largest > to->largest ? largest : to->largest;
  return 1;
}

typedef int Tier(const int32_t *, const int32_t *, int64_t, double, Found *, int64_t *);
static Tier *const TIERS[] = {spikes, exact, odd, real};

/* The first magnitude of the block that does not fit: what the tier above refused. */
static double misfit(const int32_t *b, int64_t n, double unit, int tier) {
  Found one = {0};
  int64_t count = 0;
  EACH if (!TIERS[tier](b + p, NULL, 1, unit, &one, &count)) return as_float(b[p] & SIGN_OFF);
  return 0;
}

/* Elements from ``start`` to ``end`` of one segment. */
static void read_piece(const Ask *ask, int64_t segment, int64_t start, int64_t end, Found *to) {
  int32_t buffer[BLOCK];
  const int size = SIZES[ask->type];
  const char *x = ask->x + segment * ask->n * size;
  const int32_t *f = ask->f ? ask->f + segment * ask->f_stride : NULL;
  int64_t *nz = to->nonzeros + segment % ask->steps;
  for (int64_t at = start; at < end;) {
    int64_t in_tile = at % ask->tile, n = end - at;
    if (f && n > ask->tile - in_tile) n = ask->tile - in_tile;
    if (n > ask->block) n = ask->block;
    const int32_t *b = load(x + at * size, ask->type, to->tier, n, buffer, &to->inexact);
    if (to->inexact) return;
    const int32_t *g = f ? f + in_tile : NULL;
    if (!TIERS[to->tier](b, g, n, ask->unit, to, nz)) {
      if (to->tier == ask->tier) {
        to->misfit = misfit(b, n, ask->unit, ask->tier);
        return;
      }
      to->tier = ask->tier; /* spikes so far: from here on there are levels */
      continue;
    }
    at += n;
  }
}

typedef struct { const Ask *ask; Found found; int64_t first, last; } Job;

static void *work(void *given) {
  Job *job = given;
  const Ask *ask = job->ask;
  int64_t pieces = (ask->n + PIECE - 1) / PIECE;
  for (int64_t i = job->first; i < job->last && !job->found.misfit && !job->found.inexact; i++) {
    int64_t start = i % pieces * PIECE, end = start + PIECE < ask->n ? start + PIECE : ask->n;
    read_piece(ask, i / pieces, start, end, &job->found);
  }
  return NULL;
}

static void run(Job *jobs, int threads) {
#if THREADS > 1
  pthread_t started[THREADS];
  int running[THREADS] = {0};
  for (int i = 1; i < threads; i++) running[i] = !pthread_create(&started[i], NULL, work, &jobs[i]);
  for (int i = 0; i < threads; i++) if (!running[i]) work(&jobs[i]);
  for (int i = 1; i < threads; i++) if (running[i]) pthread_join(started[i], NULL);
#else
  for (int i = 0; i < threads; i++) work(&jobs[i]);
#endif
}

static PyObject *scan(PyObject *self, PyObject *args) {
  unsigned long long x, f;
  long long outer, steps, n, tile, f_stride, block;
  int type, tier, threads;
  double unit;
  (void)self;
  if (!PyArg_ParseTuple(args, "KiKLLLLLLdii", &x, &type, &f, &outer, &steps, &n, &tile, &f_stride,
                        &block, &unit, &tier, &threads))
    return NULL;
  Ask ask = {(const char *)(uintptr_t)x, (const int32_t *)(uintptr_t)f, outer * steps, steps, n,
             tile, f_stride, block < BLOCK ? block : BLOCK, unit, type, tier};
  int64_t pieces = ask.segments * ((n + PIECE - 1) / PIECE);
  threads = threads > THREADS ? THREADS : threads;
  threads = threads > pieces ? (int)pieces : threads;
  threads = threads < 1 ? 1 : threads;
  int64_t *counts = calloc((size_t)(threads * steps), sizeof *counts);
  if (!counts) return PyErr_NoMemory();
  Job jobs[THREADS];
  for (int i = 0; i < threads; i++) {
    Found none = {0, 0, counts + i * steps, SIGN_OFF, 0, 0, INFINITY, 0, 0, SPIKES, 0};
    none.tier = tier == REAL || (double)(float)unit != unit ? tier : SPIKES;
    Job job = {&ask, none, pieces * i / threads, pieces * (i + 1) / threads};
    jobs[i] = job;
  }
  if (ask.segments * n >= KEEP_GIL) {
    Py_BEGIN_ALLOW_THREADS
    run(jobs, threads);
    Py_END_ALLOW_THREADS
  } else
    run(jobs, threads);
  Found all = jobs[0].found;
  for (int i = 1; i < threads; i++) {
    Found *one = &jobs[i].found;
    all.events += one->events, all.levels += one->levels;
    all.least = one->least < all.least ? one->least : all.least;
    all.largest = one->largest > all.largest ? one->largest : all.largest;
    all.low = one->low < all.low ? one->low : all.low;
    all.high = one->high > all.high ? one->high : all.high;
    all.misfit = all.misfit ? all.misfit : one->misfit;
    all.negative |= one->negative, all.inexact |= one->inexact;
    all.tier = one->tier > all.tier ? one->tier : all.tier;
    for (long long t = 0; t < steps; t++) counts[t] += counts[i * steps + t];
  }
  PyObject *nonzeros = PyList_New((Py_ssize_t)steps);
  for (long long t = 0; nonzeros && t < steps; t++)
    PyList_SetItem(nonzeros, (Py_ssize_t)t, PyLong_FromLongLong(counts[t]));
  free(counts);
  if (!nonzeros) return NULL;
  return Py_BuildValue("NLLddidddi", nonzeros, (long long)all.events, (long long)all.levels,
                       (double)as_float((uint32_t)all.least), (double)as_float((uint32_t)all.largest),
                       (int)all.negative, all.low, all.high, all.misfit, all.inexact);
}

/* One pass over a weight [groups, outputs, n]: adds 1 to counts [groups, n] for each that is not 0.
 * Returns how far its channels hold one magnitude each, and whether a value is negative; None
 * where a value is no float32. */
static PyObject *weight(PyObject *self, PyObject *args) {
  unsigned long long given, into;
  long long groups, outputs, n;
  int type, one = 1, inexact = 0;
  uint32_t negative = 0;
  (void)self;
  if (!PyArg_ParseTuple(args, "KiKLLL", &given, &type, &into, &groups, &outputs, &n)) return NULL;
  const char *x = (const char *)(uintptr_t)given;
  Py_BEGIN_ALLOW_THREADS
  int32_t buffer[BLOCK];
  for (int64_t channel = 0; channel < groups * outputs && !inexact; channel++) {
    int32_t *counts = (int32_t *)(uintptr_t)into + channel / outputs * n, c = 0, bad = 0;
    for (int64_t at = 0; at < n; at += BLOCK) {
      int64_t some = n - at < BLOCK ? n - at : BLOCK;
      const int32_t *b = load(x + (channel * n + at) * SIZES[type], type, EXACT, some, buffer, &inexact);
      int32_t *to = counts + at, signs = 0;
      if (one) {
        for (int64_t p = 0; p < some && !c; p++) c = b[p] & (int32_t)SIGN_OFF;
        for (int64_t p = 0; p < some; p++) {
          int32_t m = MASK;
          to[p] -= m;
          bad |= (int32_t)(b[p] & SIGN_OFF) ^ (m & c);
          signs |= b[p] & m;
        }
        negative |= (uint32_t)signs >> 31;
        one = !bad && c < INFINITE;
      } else
        for (int64_t p = 0; p < some; p++) to[p] -= MASK;
    }
  }
  Py_END_ALLOW_THREADS
  if (inexact) Py_RETURN_NONE;
  return Py_BuildValue("ii", one, (int)negative);
}

static PyMethodDef methods[] = {
    {"scan", scan, METH_VARARGS,
     "scan(x, type, f, outer, steps, n, tile, f_stride, block, unit, tier, threads)"},
    {"weight", weight, METH_VARARGS, "weight(x, type, counts, groups, outputs, n)"},
    {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_scan", NULL, -1, methods, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit__scan(void) { return PyModule_Create(&module); }
