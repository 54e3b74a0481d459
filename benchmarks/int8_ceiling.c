/* How many int8 operations a second this processor's dot unit does on registers alone, in each of `threads` threads at once:
 * the ceiling that native_vit.py measures against. A product and a sum are two operations.
 *
 *     gcc -O2 -pthread -mavx512f -mavx512vnni int8_ceiling.c -o int8_ceiling && ./int8_ceiling THREADS
 */
#include <immintrin.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { LOOPS = 50000, WIDE = 16, TURNS = 400 };

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + 1e-9 * now.tv_nsec;
}

static void* work(void* best) {
    double least = 1e9;
    for (int turn = 0; turn < TURNS; turn++) {
        __m512i sum[WIDE];
        for (int i = 0; i < WIDE; i++) sum[i] = _mm512_set1_epi32(i);
        __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(2);
        double start = seconds();
        for (int loop = 0; loop < LOOPS; loop++) {
            __asm__ volatile("" : "+v"(a), "+v"(b));
#pragma GCC unroll 16
            for (int i = 0; i < WIDE; i++) sum[i] = _mm512_dpbusd_epi32(sum[i], a, b);
        }
        double taken = seconds() - start;
        for (int i = 0; i < WIDE; i++) __asm__ volatile("" : : "v"(sum[i]));
        if (taken < least) least = taken;
    }
    *(double*)best = least;
    return NULL;
}

int main(int count, char** words) {
    int threads = count > 1 ? atoi(words[1]) : 1;
    if (threads < 1 || threads > 64) return 2;
    pthread_t team[64];
    double best[64], rate = 0;
    for (int i = 0; i < threads; i++) pthread_create(&team[i], NULL, work, &best[i]);
    for (int i = 0; i < threads; i++) pthread_join(team[i], NULL);
    for (int i = 0; i < threads; i++) rate += 128.0 * LOOPS * WIDE / best[i];
    printf("%.1f\n", rate / 1e9);
    return 0;
}
