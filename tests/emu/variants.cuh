/* variants.cuh — choosing a variant of a kernel by number. */
#ifndef QUERN_TESTS_VARIANTS_CUH
#define QUERN_TESTS_VARIANTS_CUH

#include "tests/emu/planted.h"

template <int N> struct variant { static constexpr int bug = N; };

/* Calls launch(variant<N>) for the N of the list that is wanted; the error of what it did. */
template <int... N> struct variants {
    template <class F> static int run(int wanted, F launch) {
        bool known = false;
        ((wanted == N ? (launch(variant<N>{}), known = true) : false), ...);
        if (!known) return (int)cudaErrorInvalidValue;
        cudaError_t e = cudaGetLastError(), f = cudaDeviceSynchronize();
        return (int)(e != cudaSuccess ? e : f);
    }
};

#endif
