/* What the variants of the transform kernel share: one prime's constants, the table of a variant's functions, and
 * exact products of words. Nothing here branches on, or indexes by, a value. Bounds: docs/explanation/ntt.md.
 */
#ifndef TALLYSTICK_NTT_H
#define TALLYSTICK_NTT_H

#include <stddef.h>
#include <stdint.h>

#define N 8192
#define LANES 8 /* values that stand together in columns kept for `sums`: one vector of 512 bits */

typedef uint8_t u8;
typedef uint64_t u64;
typedef unsigned __int128 u128;

#if defined(__GNUC__)
#define HIDDEN __attribute__((visibility("hidden")))
#else
#define HIDDEN
#endif

typedef struct {
    u64 p;
    double pd, p_inverse;                  /* p and 1/p */
    u64 n_inverse, n_inverse_q;            /* 1/N mod p and its Shoup quotient floor(w 2^64 / p) */
    u64 last, last_q;                      /* back[1] / N mod p: the inverse's last layer, the division included */
    const u64 *root, *root_q;              /* powers of psi, bit-reversed, and their Shoup quotients */
    const u64 *back, *back_q;              /* powers of 1/psi likewise */
    const double *root_d, *root_f;         /* the same powers balanced in (-p/2, p/2), and divided by p */
    const double *back_d, *back_f;
    double n_inverse_d, n_inverse_f;
    u64 part, part_q;                      /* (q/p)^-1 mod p and its Shoup quotient */
    u64 share_high, share_low, share_rest; /* floor(2^192 / p), three words */
    u64 bits, barrett;                     /* of p, and floor(2^(bits + 50) / p) */
    u64 one_q, fold, fold_q, fold2, fold2_q; /* Shoup quotients of 1 and of 2^52, 2^104 mod p */
    u64 word, word_q;                      /* 2^64 mod p */
} prime;

typedef struct { u64 w, w_q, v, v_q, c; } factor; /* x -> x w + c modulo p; v = 2^52 w mod p */

/* one column against r rows at one chunk of LANES values of one prime; totals are reduced, and added to */
typedef struct {
    u64 *first, *second;            /* of each row: the sum over lanes of the first half, and LANES values of the second */
    size_t first_step, second_step; /* words from one row's to the next one's */
    const u64 *column;              /* [blocks][2][LANES] */
    const u64 *rows;                /* [blocks][LANES] of each row, row_step words apart */
    size_t row_step, r, blocks;     /* at most 4,095 blocks: so no sum of products' halves overflows */
} chunk;

typedef struct {
    int (*supported)(void);
    void (*forward)(const prime *q, u64 *x);
    void (*inverse)(const prime *q, u64 *x);
    void (*multiply)(const prime *q, u64 *out, const u64 *a, const u64 *b, int add);
    u64 (*dot)(const prime *q, const u64 *a, const u64 *b);
    void (*affine)(const prime *q, const factor *f, u64 *out, const u64 *x, size_t n);
    void (*fraction)(const prime *q, size_t primes, u64 *high, u64 *low, const u64 *x, size_t n);
    void (*pack)(u8 *out, const u64 *x, size_t n, unsigned bits);
    void (*unpack)(u64 *out, const u8 *x, size_t n, unsigned bits);
    void (*sums)(const prime *q, const chunk *at);
} variant;

extern const variant ntt_portable HIDDEN, ntt_avx2 HIDDEN, ntt_ifma HIDDEN;

/* the portable functions that other variants use as they are */
void portable_affine(const prime *q, const factor *f, u64 *out, const u64 *x, size_t n) HIDDEN;
void portable_fraction(const prime *q, size_t primes, u64 *high, u64 *low, const u64 *x, size_t n) HIDDEN;
void portable_pack(u8 *out, const u64 *x, size_t n, unsigned bits) HIDDEN;
void portable_unpack(u64 *out, const u8 *x, size_t n, unsigned bits) HIDDEN;

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

#endif
