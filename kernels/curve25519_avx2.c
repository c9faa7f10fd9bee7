/* The curve kernel on AVX2: four points at a time. Not written yet: never supported. */
#include "curve25519.h"

static int supported(void)
{
    return 0;
}

const variant curve25519_avx2 = { supported, 0, 0, 0, 0, 0 };
