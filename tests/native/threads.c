/* Several threads predict on one session and on sessions of their own; every answer must be that of one thread alone.
 * threads BUNDLE.efm. Made for ThreadSanitizer, which sees what the threads share. Not a benchmark. */
#include <edgefm.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { THREADS = 4, ROUNDS = 6, SIDE = 40 };

static uint16_t pixels[THREADS][SIDE * SIDE];
static const char* path;

struct answer {
    float probabilities[16], heat[256];
};

struct task {
    int number, failed;
    edgefm_session* shared;
    struct answer expected;
};

static int ask(edgefm_session* session, int number, struct answer* answer) {
    edgefm_image image = {.struct_size = sizeof image, .pixels = pixels[number], .width = SIDE, .height = SIDE, .channels = 1, .bits = 16};
    edgefm_outputs outputs = {.struct_size = sizeof outputs, .probabilities = answer->probabilities, .heat = answer->heat};
    memset(answer, 0, sizeof *answer);
    return edgefm_predict(session, &image, 1, &outputs, NULL);
}

static edgefm_session* open_one(int threads) {
    edgefm_error error = {.struct_size = sizeof error};
    edgefm_options options = {.struct_size = sizeof options, .threads = threads};
    edgefm_session* session = NULL;
    if (edgefm_open(path, &options, &session, &error)) fprintf(stderr, "threads: %s\n", error.message);
    return session;
}

static void* work(void* argument) {
    struct task* task = argument;
    edgefm_session* own = open_one(2);
    struct answer answer;
    for (int round = 0; round < ROUNDS; ++round) {
        edgefm_session* session = round % 2 ? own : task->shared;
        task->failed |= ask(session, task->number, &answer) || memcmp(&answer, &task->expected, sizeof answer);
    }
    task->failed |= edgefm_check(task->shared, NULL);
    edgefm_close(own);
    return NULL;
}

int main(int argc, char** argv) {
    struct task tasks[THREADS];
    pthread_t threads[THREADS];
    int failed = 0;
    if (argc != 2) return 2;
    path = argv[1];
    edgefm_session* shared = open_one(3);
    if (shared == NULL) return 2;
    for (int i = 0; i < THREADS; ++i) {
        for (int k = 0; k < SIDE * SIDE; ++k) pixels[i][k] = (uint16_t)(k * (7919 * i + 104729) % 65521);
        tasks[i] = (struct task){.number = i, .shared = shared};
        failed |= ask(shared, i, &tasks[i].expected);
    }
    for (int i = 0; i < THREADS; ++i) failed |= pthread_create(&threads[i], NULL, work, &tasks[i]);
    for (int i = 0; i < THREADS; ++i) failed |= pthread_join(threads[i], NULL) || tasks[i].failed;
    edgefm_close(shared);
    puts(failed ? "an answer differs" : "all answers agree");
    return failed != 0;
}
