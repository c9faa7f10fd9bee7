/* What the variants of the curve kernel share: the table of a variant's functions, and one element of
 * GF(2^255 - 19) between bytes and five limbs of 51 bits. Nothing here branches on, or indexes by, a value.
 * The bounds are derived in docs/explanation/curve.md.
 */
#ifndef TALLYSTICK_CURVE25519_H
#define TALLYSTICK_CURVE25519_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef uint8_t u8;
typedef uint64_t u64;
typedef unsigned __int128 u128;

#define MASK51 (((u64)1 << 51) - 1)
#define STEPS 251 /* ladder steps of a clamped scalar: bits 253 to 3; its top bit and its low three are fixed */

#if defined(__GNUC__)
#define HIDDEN __attribute__((visibility("hidden")))
#define ONCE __attribute__((noinline)) /* long code that is called seldom enough: one copy of it compiles in a third */
#else
#define ONCE
#define HIDDEN
#endif

/* items to map: item i is data[offsets[i]] .. data[offsets[i + 1]]; tag is DST_prime, its length included */
typedef struct {
    const u8 *data;
    const int64_t *offsets;
    const u8 *tag;
    size_t tag_size;
} items;

typedef struct {
    int (*supported)(void);
    int limbs; /* of its field elements, for `probe` */
    int lanes;
    /* `scalars` are n, or one for all; *nonzero becomes 0 with the first output that is zero */
    void (*multiply)(u8 *out, const u8 *points, size_t n, const u8 *scalars, int one_scalar, u8 *nonzero);
    void (*map)(u8 *out, const items *from, size_t n);
    void (*probe)(int operation, u64 *out, const u64 *in, size_t n);
} variant;

extern const variant curve25519_portable HIDDEN, curve25519_avx2 HIDDEN, curve25519_ifma HIDDEN;

static inline void wipe(void *at, size_t size)
{
    volatile u8 *byte = (volatile u8 *)at;
    while (size--)
        *byte++ = 0;
}

static inline u64 word_at(const u8 *at) /* little-endian, whatever the machine is */
{
    u64 x = 0;
    for (int i = 7; i >= 0; i--)
        x = x << 8 | at[i];
    return x;
}

static inline void unpack_point(u64 x[5], const u8 *bytes) /* bit 255 ignored, as RFC 7748 has it; limbs < 2^51 */
{
    u64 w0 = word_at(bytes), w1 = word_at(bytes + 8), w2 = word_at(bytes + 16), w3 = word_at(bytes + 24);
    x[0] = w0 & MASK51;
    x[1] = (w0 >> 51 | w1 << 13) & MASK51;
    x[2] = (w1 >> 38 | w2 << 26) & MASK51;
    x[3] = (w2 >> 25 | w3 << 39) & MASK51;
    x[4] = (w3 >> 12) & MASK51;
}

static inline void freeze(u64 x[5]) /* limbs < 2^63 to the number below p, limbs < 2^51 */
{
    for (int i = 0; i < 4; i++) {
        x[i + 1] += x[i] >> 51;
        x[i] &= MASK51;
    }
    x[0] += 19 * (x[4] >> 51);
    x[4] &= MASK51; /* x < 2^255 + 2^17 now: below 2 p */
    u64 over = (x[0] + 19) >> 51; /* becomes 1 when x >= p */
    for (int i = 1; i < 5; i++)
        over = (x[i] + over) >> 51;
    x[0] += 19 * over;
    for (int i = 0; i < 4; i++) {
        x[i + 1] += x[i] >> 51;
        x[i] &= MASK51;
    }
    x[4] &= MASK51;
}

static inline u64 any(const u64 x[5]) /* all ones when a frozen x is not zero, else 0 */
{
    u64 bits = x[0] | x[1] | x[2] | x[3] | x[4];
    return (u64)0 - ((bits | ((u64)0 - bits)) >> 63);
}

static inline void pack_point(u8 *bytes, const u64 x[5]) /* of a frozen x */
{
    const u64 w[4] = { x[0] | x[1] << 51, x[1] >> 13 | x[2] << 38, x[2] >> 26 | x[3] << 25, x[3] >> 39 | x[4] << 12 };
    for (int i = 0; i < 32; i++)
        bytes[i] = (u8)(w[i / 8] >> (8 * (i % 8)));
}

#endif
