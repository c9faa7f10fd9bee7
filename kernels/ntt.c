/* Negacyclic number-theoretic transforms of length 8192 and the bulk arithmetic around them.
 *
 * A plain shared library for ctypes: no Python, no global state, no allocation, nothing read but its arguments.
 * Every function is a loop of fixed length without secret-dependent branches or addresses. Variant 0 is portable
 * (unsigned __int128), variant 1 uses AVX2 and FMA on doubles. The bounds are argued in docs/explanation/ntt.md.
 * Over 400 lines because both variants of one transform stand side by side, to be compared.
 * Reference twin: kernels/ntt.py, class Basis, whose method names these functions bear.
 */
#include <stddef.h>
#include <stdint.h>

#define N 8192
#define LOG_N 13

typedef uint64_t u64;
typedef unsigned __int128 u128;

typedef struct {
    u64 p;
    double pd, p_inverse;                  /* p and 1/p */
    u64 n_inverse, n_inverse_q;            /* 1/N mod p and its Shoup quotient floor(w 2^64 / p) */
    const u64 *root, *root_q;              /* powers of psi, bit-reversed, and their Shoup quotients */
    const u64 *back, *back_q;              /* powers of 1/psi likewise */
    const double *root_d, *root_f;         /* the same powers balanced in (-p/2, p/2), and divided by p */
    const double *back_d, *back_f;
    double n_inverse_d, n_inverse_f;
    u64 part, part_q;                      /* (q/p)^-1 mod p and its Shoup quotient */
    u64 share_high, share_low, share_rest; /* floor(2^192 / p), three words */
} prime;

typedef struct { u64 w, w_q, c; } factor;  /* x -> x w + c modulo p */

/* x w mod p in [0, 2p) for any 64-bit x and w < p: Shoup (NTL); Harvey 2014, section 2 */
static inline u64 shoup(u64 x, u64 w, u64 w_q, u64 p)
{
    return x * w - (u64)(((u128)x * w_q) >> 64) * p;
}

static inline u64 less(u64 x, u64 p) /* x < 2p to x mod p, without a branch */
{
    u64 y = x - p;
    return y + (p & -(y >> 63));
}

/* --- portable transforms: Harvey's lazy butterflies, values in [0, 4p) -------------------------------------- */

static void forward_portable(const prime *q, u64 *x)
{
    const u64 p = q->p, twice = 2 * p;
    size_t t = N;
    for (size_t m = 1; m < N; m *= 2) {
        t /= 2;
        for (size_t i = 0; i < m; i++) {
            const u64 w = q->root[m + i], w_q = q->root_q[m + i];
            u64 *a = x + 2 * i * t, *b = a + t;
            for (size_t j = 0; j < t; j++) {
                u64 u = less(a[j], twice), v = shoup(b[j], w, w_q, p);
                a[j] = u + v;
                b[j] = u - v + twice;
            }
        }
    }
    for (size_t j = 0; j < N; j++)
        x[j] = less(less(x[j], twice), p);
}

static void inverse_portable(const prime *q, u64 *x)
{
    const u64 p = q->p, twice = 2 * p;
    size_t t = 1;
    for (size_t m = N / 2; m >= 1; m /= 2) {
        for (size_t i = 0; i < m; i++) {
            const u64 w = q->back[m + i], w_q = q->back_q[m + i];
            u64 *a = x + 2 * i * t, *b = a + t;
            for (size_t j = 0; j < t; j++) {
                u64 u = a[j], v = b[j];
                a[j] = less(u + v, twice);
                b[j] = shoup(u - v + twice, w, w_q, p);
            }
        }
        t *= 2;
    }
    for (size_t j = 0; j < N; j++)
        x[j] = less(shoup(x[j], q->n_inverse, q->n_inverse_q, p), p);
}

/* a b mod p for a, b < p < 2^50: quotient by doubles, off by one at most */
static inline u64 product(u64 a, u64 b, u64 p, double p_inverse)
{
    u64 quotient = (u64)((double)a * (double)b * p_inverse);
    u64 r = a * b - quotient * p; /* in (-p, 2p) */
    r += p & -(r >> 63);
    return less(r, p);
}

static void multiply_portable(const prime *q, u64 *out, const u64 *a, const u64 *b, int add)
{
    for (size_t j = 0; j < N; j++) {
        u64 r = product(a[j], b[j], q->p, q->p_inverse);
        out[j] = add ? less(out[j] + r, q->p) : r;
    }
}

static u64 dot_portable(const prime *q, const u64 *a, const u64 *b)
{
    u64 sum = 0; /* 8192 values below 2^50 stay below 2^63 */
    for (size_t j = 0; j < N; j++)
        sum += product(a[j], b[j], q->p, q->p_inverse);
    return sum % q->p;
}

/* --- AVX2 and FMA: balanced doubles ------------------------------------------------------------------------- */

#if defined(__x86_64__) && defined(__GNUC__)
#define HAVE_AVX2 1
#include <immintrin.h>
#define FAST __attribute__((target("avx2,fma")))
#define INLINE FAST static inline __attribute__((always_inline))
#define NEAREST (_MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)

INLINE __m256d load(const u64 *x) /* integers below 2^52 to doubles */
{
    const __m256d magic = _mm256_set1_pd(4503599627370496.0);
    __m256i bits = _mm256_loadu_si256((const __m256i *)x);
    return _mm256_sub_pd(_mm256_castsi256_pd(_mm256_or_si256(bits, _mm256_castpd_si256(magic))), magic);
}

INLINE void store(u64 *x, __m256d v) /* doubles in [0, 2^52) to integers */
{
    const __m256d magic = _mm256_set1_pd(4503599627370496.0);
    _mm256_storeu_si256((__m256i *)x,
                        _mm256_xor_si256(_mm256_castpd_si256(_mm256_add_pd(v, magic)), _mm256_castpd_si256(magic)));
}

INLINE __m256d reduce(__m256d x, __m256d p, __m256d p_inverse) /* to about [-p/2, p/2] */
{
    return _mm256_fnmadd_pd(_mm256_round_pd(_mm256_mul_pd(x, p_inverse), NEAREST), p, x);
}

INLINE __m256d lift(__m256d x, __m256d p) /* (-p, p) to [0, p) */
{
    return _mm256_add_pd(x, _mm256_and_pd(p, _mm256_cmp_pd(x, _mm256_setzero_pd(), _CMP_LT_OQ)));
}

INLINE __m256d times(__m256d x, __m256d w, __m256d w_f, __m256d p) /* x w mod p, balanced; w_f = w / p */
{
    __m256d high = _mm256_mul_pd(x, w);
    __m256d low = _mm256_fmsub_pd(x, w, high);
    __m256d quotient = _mm256_round_pd(_mm256_mul_pd(x, w_f), NEAREST);
    return _mm256_add_pd(_mm256_fnmadd_pd(quotient, p, high), low);
}

INLINE __m256d times_any(__m256d x, __m256d y, __m256d p, __m256d p_inverse)
{
    __m256d high = _mm256_mul_pd(x, y);
    __m256d low = _mm256_fmsub_pd(x, y, high);
    __m256d quotient = _mm256_round_pd(_mm256_mul_pd(high, p_inverse), NEAREST);
    return _mm256_add_pd(_mm256_fnmadd_pd(quotient, p, high), low);
}

/* 4 numbers of a table entry for each of two: (w0, w0, w1, w1) */
INLINE __m256d pairs(const double *w)
{
    return _mm256_permute4x64_pd(_mm256_castpd128_pd256(_mm_loadu_pd(w)), 0x50);
}

FAST static void forward_avx2(const prime *q, u64 *words)
{
    double *x = (double *)(void *)words;
    const __m256d p = _mm256_set1_pd(q->pd), p_inverse = _mm256_set1_pd(q->p_inverse);
    for (size_t j = 0; j < N; j += 4)
        _mm256_storeu_pd(x + j, reduce(load(words + j), p, p_inverse));
    size_t t = N;
    int layer = 0;
    for (size_t m = 1; m < N / 4; m *= 2, layer++) {
        const int tame = layer == 4 || layer == 9; /* keeps every value under 5p; see the page */
        t /= 2;
        for (size_t i = 0; i < m; i++) {
            const __m256d w = _mm256_set1_pd(q->root_d[m + i]), w_f = _mm256_set1_pd(q->root_f[m + i]);
            double *a = x + 2 * i * t, *b = a + t;
            for (size_t j = 0; j < t; j += 4) {
                __m256d u = _mm256_loadu_pd(a + j), v = times(_mm256_loadu_pd(b + j), w, w_f, p);
                if (tame)
                    u = reduce(u, p, p_inverse);
                _mm256_storeu_pd(a + j, _mm256_add_pd(u, v));
                _mm256_storeu_pd(b + j, _mm256_sub_pd(u, v));
            }
        }
    }
    for (size_t i = 0; i < N / 8; i++) { /* the last two layers inside the registers */
        double *a = x + 8 * i;
        __m256d first = _mm256_loadu_pd(a), second = _mm256_loadu_pd(a + 4);
        __m256d u = _mm256_permute2f128_pd(first, second, 0x20), v = _mm256_permute2f128_pd(first, second, 0x31);
        v = times(v, pairs(q->root_d + N / 4 + 2 * i), pairs(q->root_f + N / 4 + 2 * i), p);
        first = _mm256_add_pd(u, v);
        second = _mm256_sub_pd(u, v);
        u = _mm256_unpacklo_pd(first, second);
        v = _mm256_unpackhi_pd(first, second);
        v = times(v, _mm256_loadu_pd(q->root_d + N / 2 + 4 * i), _mm256_loadu_pd(q->root_f + N / 2 + 4 * i), p);
        first = lift(reduce(_mm256_add_pd(u, v), p, p_inverse), p);
        second = lift(reduce(_mm256_sub_pd(u, v), p, p_inverse), p);
        u = _mm256_unpacklo_pd(first, second);
        v = _mm256_unpackhi_pd(first, second);
        store(words + 8 * i, _mm256_permute2f128_pd(u, v, 0x20));
        store(words + 8 * i + 4, _mm256_permute2f128_pd(u, v, 0x31));
    }
}

FAST static void inverse_avx2(const prime *q, u64 *words)
{
    double *x = (double *)(void *)words;
    const __m256d p = _mm256_set1_pd(q->pd), p_inverse = _mm256_set1_pd(q->p_inverse);
    for (size_t i = 0; i < N / 8; i++) { /* the first two layers inside the registers */
        __m256d first = reduce(load(words + 8 * i), p, p_inverse), second = reduce(load(words + 8 * i + 4), p, p_inverse);
        __m256d a = _mm256_permute2f128_pd(first, second, 0x20), b = _mm256_permute2f128_pd(first, second, 0x31);
        __m256d u = _mm256_unpacklo_pd(a, b), v = _mm256_unpackhi_pd(a, b);
        first = _mm256_add_pd(u, v);
        second = times(_mm256_sub_pd(u, v), _mm256_loadu_pd(q->back_d + N / 2 + 4 * i),
                       _mm256_loadu_pd(q->back_f + N / 2 + 4 * i), p);
        a = _mm256_unpacklo_pd(first, second);
        b = _mm256_unpackhi_pd(first, second);
        first = reduce(_mm256_add_pd(a, b), p, p_inverse);
        second = times(_mm256_sub_pd(a, b), pairs(q->back_d + N / 4 + 2 * i), pairs(q->back_f + N / 4 + 2 * i), p);
        _mm256_storeu_pd(x + 8 * i, _mm256_permute2f128_pd(first, second, 0x20));
        _mm256_storeu_pd(x + 8 * i + 4, _mm256_permute2f128_pd(first, second, 0x31));
    }
    size_t t = 4;
    int layer = 2;
    for (size_t m = N / 8; m >= 1; m /= 2, layer++) {
        const int tame = layer % 2; /* sums double in a layer: every second one is reduced */
        for (size_t i = 0; i < m; i++) {
            const __m256d w = _mm256_set1_pd(q->back_d[m + i]), w_f = _mm256_set1_pd(q->back_f[m + i]);
            double *a = x + 2 * i * t, *b = a + t;
            for (size_t j = 0; j < t; j += 4) {
                __m256d u = _mm256_loadu_pd(a + j), v = _mm256_loadu_pd(b + j), sum = _mm256_add_pd(u, v);
                if (tame)
                    sum = reduce(sum, p, p_inverse);
                _mm256_storeu_pd(a + j, sum);
                _mm256_storeu_pd(b + j, times(_mm256_sub_pd(u, v), w, w_f, p));
            }
        }
        t *= 2;
    }
    const __m256d last = _mm256_set1_pd(q->n_inverse_d), last_f = _mm256_set1_pd(q->n_inverse_f);
    for (size_t j = 0; j < N; j += 4)
        store(words + j, lift(times(_mm256_loadu_pd(x + j), last, last_f, p), p));
}

FAST static void multiply_avx2(const prime *q, u64 *out, const u64 *a, const u64 *b, int add)
{
    const __m256d p = _mm256_set1_pd(q->pd), p_inverse = _mm256_set1_pd(q->p_inverse);
    for (size_t j = 0; j < N; j += 4) {
        __m256d r = lift(times_any(load(a + j), load(b + j), p, p_inverse), p);
        if (add) {
            r = _mm256_sub_pd(_mm256_add_pd(r, load(out + j)), p);
            r = lift(r, p);
        }
        store(out + j, r);
    }
}

FAST static u64 dot_avx2(const prime *q, const u64 *a, const u64 *b)
{
    const __m256d p = _mm256_set1_pd(q->pd), p_inverse = _mm256_set1_pd(q->p_inverse);
    __m256i sum = _mm256_setzero_si256();
    u64 lane[4];
    for (size_t j = 0; j < N; j += 4) {
        store(lane, lift(times_any(load(a + j), load(b + j), p, p_inverse), p));
        sum = _mm256_add_epi64(sum, _mm256_loadu_si256((const __m256i *)lane));
    }
    _mm256_storeu_si256((__m256i *)lane, sum);
    return (lane[0] + lane[1] + lane[2] + lane[3]) % q->p;
}
#endif

/* --- what ctypes calls; arrays are [outer][primes][n], contiguous -------------------------------------------- */

/* what the caller checks before it trusts a library that may be older than itself: version and size of a prime */
int ntt_layout(void)
{
    return 2 * 65536 + (int)sizeof(prime);
}

int ntt_best_variant(void)
{
#ifdef HAVE_AVX2
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return 1;
#endif
    return 0;
}

void ntt_forward(const prime *q, size_t primes, u64 *x, size_t outer, int variant)
{
    for (size_t k = 0; k < outer * primes; k++) {
#ifdef HAVE_AVX2
        if (variant) {
            forward_avx2(q + k % primes, x + k * N);
            continue;
        }
#endif
        forward_portable(q + k % primes, x + k * N);
    }
}

void ntt_inverse(const prime *q, size_t primes, u64 *x, size_t outer, int variant)
{
    for (size_t k = 0; k < outer * primes; k++) {
#ifdef HAVE_AVX2
        if (variant) {
            inverse_avx2(q + k % primes, x + k * N);
            continue;
        }
#endif
        inverse_portable(q + k % primes, x + k * N);
    }
}

/* out = a b, or out + a b when add is set; b holds `b_outer` polynomials, used again and again */
void ntt_multiply(const prime *q, size_t primes, u64 *out, const u64 *a, const u64 *b, size_t outer, size_t b_outer,
                  int add, int variant)
{
    for (size_t k = 0; k < outer * primes; k++) {
        const u64 *factor_b = b + k % (b_outer * primes) * N;
#ifdef HAVE_AVX2
        if (variant) {
            multiply_avx2(q + k % primes, out + k * N, a + k * N, factor_b, add);
            continue;
        }
#endif
        multiply_portable(q + k % primes, out + k * N, a + k * N, factor_b, add);
    }
}

void ntt_dot(const prime *q, size_t primes, u64 *out, const u64 *a, const u64 *b, int variant)
{
    for (size_t i = 0; i < primes; i++) {
#ifdef HAVE_AVX2
        if (variant) {
            out[i] = dot_avx2(q + i, a + i * N, b + i * N);
            continue;
        }
#endif
        out[i] = dot_portable(q + i, a + i * N, b + i * N);
    }
}

/* x [outer][n] of any 64-bit words to x w + c modulo each prime, [outer][primes][n] */
void ntt_affine(const prime *q, size_t primes, const factor *f, u64 *out, const u64 *x, size_t outer, size_t n)
{
    for (size_t o = 0; o < outer; o++)
        for (size_t i = 0; i < primes; i++) {
            const u64 p = q[i].p, w = f[i].w, w_q = f[i].w_q, c = f[i].c;
            u64 *to = out + (o * primes + i) * n;
            for (size_t j = 0; j < n; j++)
                to[j] = less(less(shoup(x[o * n + j], w, w_q, p), p) + c, p);
        }
}

/* residues of v [outer][primes][n] to v / q as a binary fraction of 128 bits, [outer][n] each */
void ntt_fraction(const prime *q, size_t primes, u64 *high, u64 *low, const u64 *x, size_t outer, size_t n)
{
    for (size_t o = 0; o < outer; o++)
        for (size_t j = 0; j < n; j++) {
            u128 sum = 0;
            for (size_t i = 0; i < primes; i++) {
                const u64 p = q[i].p;
                u64 y = less(shoup(x[(o * primes + i) * n + j], q[i].part, q[i].part_q, p), p);
                sum += (u128)y * (((u128)q[i].share_high << 64) | q[i].share_low);
                sum += (u64)(((u128)y * q[i].share_rest) >> 64); /* without it v / q would be 2^-76 off, always below */
            }
            high[o * n + j] = (u64)(sum >> 64);
            low[o * n + j] = (u64)sum;
        }
}

/* n values of `bits` bits (at most 56; n * bits a multiple of 64) to little-endian bytes, and back */
void ntt_pack(uint8_t *out, const u64 *x, size_t n, unsigned bits)
{
    u128 held = 0;
    unsigned filled = 0;
    for (size_t j = 0; j < n; j++) {
        held |= (u128)x[j] << filled;
        filled += bits;
        if (filled >= 64) {
            const u64 word = (u64)held;
            for (int i = 0; i < 8; i++)
                *out++ = (uint8_t)(word >> (8 * i));
            held >>= 64;
            filled -= 64;
        }
    }
}

void ntt_unpack(u64 *out, const uint8_t *x, size_t n, unsigned bits)
{
    const u64 mask = ((u64)1 << bits) - 1;
    u128 held = 0;
    unsigned filled = 0;
    for (size_t j = 0; j < n; j++) {
        if (filled < bits) {
            u64 word = 0;
            for (int i = 0; i < 8; i++)
                word |= (u64)*x++ << (8 * i);
            held |= (u128)word << filled;
            filled += 64;
        }
        out[j] = (u64)held & mask;
        held >>= bits;
        filled -= bits;
    }
}
