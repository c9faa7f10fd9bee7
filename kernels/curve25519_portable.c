/* The curve kernel for any 64-bit machine: one point at a time, five limbs of 51 bits, unsigned __int128.
 * A product takes limbs below 2^54 and gives limbs below 2^51 + 2^13, so that `carry` has nothing left to do.
 */
#include "curve25519.h"

/* Limbs stored one by one and read back as pairs wait for the store to finish: a third of a square's time. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-tree-vectorize", "no-tree-slp-vectorize")
#endif

#define LANES 1
#define FAST

typedef struct { u64 limb[5]; } wide;
typedef struct { u64 limb[5]; } tight;
typedef u64 vec;

#define V_ADD(a, b) ((a) + (b))
#define V_XOR3(a, b, c) ((a) ^ (b) ^ (c))
#define V_CH(e, f, g) ((g) ^ ((e) & ((f) ^ (g))))
#define V_MAJ(a, b, c) (((a) & (b)) | ((c) & ((a) | (b))))
#define V_ROR(x, n) ((x) >> (n) | (x) << (64 - (n)))
#define V_SHR(x, n) ((x) >> (n))
#define V_ALL(word) ((u64)(word))
#define V_LOAD(at) (*(at))
#define V_STORE(at, x) (*(at) = (x))
#define V_KEEP(old, new, mask) ((mask) & 1 ? (new) : (old))

/* two chains of carries side by side: 0 to 4 and 3 to 1 */
static inline void collect(wide *out, u128 r0, u128 r1, u128 r2, u128 r3, u128 r4)
{
    r1 += (u64)(r0 >> 51);
    r4 += (u64)(r3 >> 51);
    r2 += (u64)(r1 >> 51);
    const u64 first = ((u64)r0 & MASK51) + 19 * (u64)(r4 >> 51);
    const u64 fourth = ((u64)r3 & MASK51) + (u64)(r2 >> 51);
    out->limb[0] = first & MASK51;
    out->limb[1] = ((u64)r1 & MASK51) + (first >> 51);
    out->limb[2] = (u64)r2 & MASK51;
    out->limb[3] = fourth & MASK51;
    out->limb[4] = ((u64)r4 & MASK51) + (fourth >> 51);
}

static inline void multiply(wide *out, const tight *left, const tight *right)
{
    const u64 *a = left->limb, *b = right->limb;
    const u64 b1 = 19 * b[1], b2 = 19 * b[2], b3 = 19 * b[3], b4 = 19 * b[4];
    const u128 r0 = (u128)a[0] * b[0] + (u128)a[1] * b4 + (u128)a[2] * b3 + (u128)a[3] * b2 + (u128)a[4] * b1;
    const u128 r1 = (u128)a[0] * b[1] + (u128)a[1] * b[0] + (u128)a[2] * b4 + (u128)a[3] * b3 + (u128)a[4] * b2;
    const u128 r2 = (u128)a[0] * b[2] + (u128)a[1] * b[1] + (u128)a[2] * b[0] + (u128)a[3] * b4 + (u128)a[4] * b3;
    const u128 r3 = (u128)a[0] * b[3] + (u128)a[1] * b[2] + (u128)a[2] * b[1] + (u128)a[3] * b[0] + (u128)a[4] * b4;
    const u128 r4 = (u128)a[0] * b[4] + (u128)a[1] * b[3] + (u128)a[2] * b[2] + (u128)a[3] * b[1] + (u128)a[4] * b[0];
    collect(out, r0, r1, r2, r3, r4);
}

static inline void square(wide *out, const tight *x)
{
    const u64 *a = x->limb;
    const u64 d0 = 2 * a[0], d1 = 2 * a[1], d2 = 2 * a[2], a3 = 19 * a[3], a4 = 19 * a[4];
    const u128 r0 = (u128)a[0] * a[0] + (u128)d1 * a4 + (u128)d2 * a3;
    const u128 r1 = (u128)d0 * a[1] + (u128)d2 * a4 + (u128)a[3] * a3;
    const u128 r2 = (u128)d0 * a[2] + (u128)a[1] * a[1] + (u128)(2 * a[3]) * a4;
    const u128 r3 = (u128)d0 * a[3] + (u128)d1 * a[2] + (u128)a[4] * a4;
    const u128 r4 = (u128)d0 * a[4] + (u128)d1 * a[3] + (u128)a[2] * a[2];
    collect(out, r0, r1, r2, r3, r4);
}

static inline void add(wide *out, const wide *a, const wide *b)
{
    for (int i = 0; i < 5; i++)
        out->limb[i] = a->limb[i] + b->limb[i];
}

static inline void subtract(wide *out, const wide *a, const wide *b) /* a - b + 4 p */
{
    for (int i = 0; i < 5; i++)
        out->limb[i] = a->limb[i] + 4 * (i ? MASK51 : MASK51 - 18) - b->limb[i];
}

static inline void small(wide *out, u64 x)
{
    *out = (wide){ { x, 0, 0, 0, 0 } };
}

static inline void add_small(wide *out, u64 x)
{
    out->limb[0] += x;
}

static inline void carry(tight *out, const wide *x)
{
    for (int i = 0; i < 5; i++)
        out->limb[i] = x->limb[i];
}

static inline void widen(wide *out, const tight *x) /* of a loaded point */
{
    for (int i = 0; i < 5; i++)
        out->limb[i] = x->limb[i];
}

static inline void scaled(wide *out, const tight *e, const tight *aa) /* AA + 121665 E */
{
    u128 r[5];
    for (int i = 0; i < 5; i++)
        r[i] = (u128)e->limb[i] * 121665 + aa->limb[i];
    collect(out, r[0], r[1], r[2], r[3], r[4]);
}

static inline void choose(tight *a, const tight *b, u8 which) /* b where a bit is set */
{
    const u64 mask = (u64)0 - (which & 1);
    for (int i = 0; i < 5; i++)
        a->limb[i] ^= (mask & (a->limb[i] ^ b->limb[i]));
}

typedef struct { u64 limb[5][LANES]; } lanes51;

static inline void load(tight *out, const lanes51 *from)
{
    memcpy(out->limb, from->limb, sizeof out->limb);
}

static inline void unload(lanes51 *to, const tight *x)
{
    memcpy(to->limb, x->limb, sizeof to->limb);
}

#include "sha512_lanes.h"
#include "curve25519_lanes.h"

static int supported(void)
{
    return 1;
}

const variant curve25519_portable = { supported, 5, LANES, multiply_points, map_items, probe };
