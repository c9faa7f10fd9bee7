/* The transform kernel on AVX2 and FMA: integers in doubles, balanced around 0; see docs/explanation/ntt.md. */
#include "ntt.h"

#if defined(__x86_64__) && defined(__GNUC__)
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

FAST static void forward(const prime *q, u64 *words)
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

FAST static void inverse(const prime *q, u64 *words)
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

FAST static void multiply(const prime *q, u64 *out, const u64 *a, const u64 *b, int add)
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

FAST static u64 dot(const prime *q, const u64 *a, const u64 *b)
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

/* the sums of products stay balanced: each product is below p in magnitude, and every fourth time they are reduced */
FAST static void sums(const prime *q, const chunk *at)
{
    const __m256d p = _mm256_set1_pd(q->pd), p_inverse = _mm256_set1_pd(q->p_inverse), none = _mm256_setzero_pd();
    for (size_t row = 0; row < at->r; row++) {
        const u64 *factor_at = at->rows + row * at->row_step, *x = at->column;
        u64 *first = at->first + row * at->first_step, *second = at->second + row * at->second_step;
        __m256d sum[4] = { none, none, none, none };
        for (size_t block = 0; block < at->blocks; block++, x += 2 * LANES, factor_at += LANES) {
            const __m256d left = load(factor_at), right = load(factor_at + 4);
            for (int i = 0; i < 4; i++) {
                sum[i] = _mm256_add_pd(sum[i], times_any(load(x + 4 * i), i % 2 ? right : left, p, p_inverse));
                if (block % 4 == 3)
                    sum[i] = reduce(sum[i], p, p_inverse);
            }
        }
        u64 lane[4 * 4];
        for (int i = 0; i < 4; i++)
            store(lane + 4 * i, lift(reduce(sum[i], p, p_inverse), p));
        u64 whole = *first;
        for (size_t i = 0; i < LANES; i++) {
            whole += lane[i];
            second[i] = less(second[i] + lane[LANES + i], q->p);
        }
        *first = whole % q->p;
    }
}

static int supported(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

const variant ntt_avx2 = {
    supported, forward, inverse, multiply, dot, portable_affine, portable_fraction, portable_pack, portable_unpack, sums,
};

#else

static int supported(void)
{
    return 0;
}

const variant ntt_avx2 = { supported, 0, 0, 0, 0, 0, 0, 0, 0, 0 };
#endif
