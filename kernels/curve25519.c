/* X25519 and Elligator2 in batches: what ctypes calls. No Python, no global state, no allocation.
 *
 * Points and scalars are rows of 32 bytes, little-endian. Time does not depend on scalars, points or the bytes of
 * items; it does on counts and lengths. The variants share one algorithm, curve25519_lanes.h, over their own field
 * arithmetic: curve25519_portable.c, curve25519_avx2.c, curve25519_ifma.c. Plain twin: curve25519_reference.py.
 */
#include "curve25519.h"

#define VERSION 1 /* of these signatures: the caller checks it, a library may be older than its Python side */

static const variant *const variants[] = { &curve25519_portable, &curve25519_avx2, &curve25519_ifma };
#define VARIANTS (sizeof variants / sizeof *variants)

int curve25519_version(void)
{
    return VERSION;
}

/* 0, or 65536 limbs + lanes of a variant that this machine can run: in the order portable, avx2, ifma */
int curve25519_variant(int which)
{
    if (which < 0 || which >= (int)VARIANTS || !variants[which]->supported())
        return 0;
    return variants[which]->limbs * 65536 + variants[which]->lanes;
}

/* 1 when every row has bit 255 clear and is below p = 2^255 - 19 */
static u8 all_canonical(const u8 *points, size_t n)
{
    u64 bad = 0;
    for (size_t i = 0; i < n; i++) {
        u64 x[5], over;
        unpack_point(x, points + 32 * i);
        over = (x[0] + 19) >> 51;
        for (int k = 1; k < 5; k++)
            over = (x[k] + over) >> 51;
        bad |= over | points[32 * i + 31] >> 7;
    }
    return (u8)(bad ^ 1);
}

/* out_i = X25519(scalar, points_i), one clamped scalar for all; flags: all inputs canonical, no output zero */
void curve25519_multiply(int which, u8 *out, const u8 *points, size_t n, const u8 *scalar, u8 flags[2])
{
    u8 clamped[32];
    memcpy(clamped, scalar, 32);
    flags[0] = all_canonical(points, n);
    flags[1] = 1;
    variants[which]->multiply(out, points, n, clamped, 1, flags + 1);
    wipe(clamped, sizeof clamped);
}

/* out_i = X25519(scalars_i, points_i); scalars are read as clamped, whatever their fixed bits hold */
void curve25519_multiply_each(int which, u8 *out, const u8 *points, size_t n, const u8 *scalars)
{
    u8 nonzero = 1;
    variants[which]->multiply(out, points, n, scalars, 0, &nonzero);
}

/* out_i = u of map_to_curve(hash_to_field(item_i)), RFC 9380; `tag` is DST_prime: at most 255 bytes and their count */
void curve25519_map(int which, u8 *out, const u8 *data, const int64_t *offsets, size_t n, const u8 *tag,
                    size_t tag_size)
{
    const items from = { data, offsets, tag, tag_size };
    variants[which]->map(out, &from, n);
}

void curve25519_probe(int which, int operation, u64 *out, const u64 *in, size_t n)
{
    variants[which]->probe(operation, out, in, n);
}
