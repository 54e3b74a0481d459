#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "float_environment.h"
#include "threads.h"

namespace edgefm {
namespace {

// About 50 us: longer than most waits between equal shares of work, and short enough that a thread which the operating system
// has taken away is not waited for at the others' cost.
constexpr int kSpins = 1000;

// In the middle of a call a thread then gives its processor to whoever wants it, for about this long, before it sleeps: one
// that sleeps may wake where another of the team works (see `keep_off_the_caller`). The longest usual wait is the first, for
// threads that wake up themselves, some tenths of a millisecond. ViT-S on two processors, an image every 50 ms: 9.8 ms, 18.7
// before both; with a busy neighbour on one of the two 23 to 28 ms, 18 before.
constexpr std::chrono::microseconds kPatience(1000);

void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

// A number that only rises, and a place to wait until it is another one.
class Turn {
  public:
    uint64_t now() const { return turn_.load(std::memory_order_acquire); }

    void advance() {
        turn_.fetch_add(1);
        // a sleeper raises `sleepers_` before it looks at `turn_` again, so one of the two sees the other
        if (sleepers_.load() > 0) {
            const std::lock_guard<std::mutex> held(lock_);
            woken_.notify_all();
        }
    }

    bool somebody_sleeps() const { return sleepers_.load() > 0; }

    void wait(uint64_t before, std::chrono::microseconds patience = {}) {
        for (int i = 0; i < kSpins; i++) {
            if (now() != before) return;
            pause();
        }
        if (patience.count() > 0) {
            const auto end = std::chrono::steady_clock::now() + patience;
            while (std::chrono::steady_clock::now() < end) {
                if (now() != before) return;
                sched_yield();
            }
        }
        std::unique_lock<std::mutex> held(lock_);
        sleepers_.fetch_add(1);
        woken_.wait(held, [&] { return turn_.load() != before; });
        sleepers_.fetch_sub(1);
    }

  private:
    std::atomic<uint64_t> turn_{0};
    std::atomic<int> sleepers_{0};
    std::mutex lock_;
    std::condition_variable woken_;
};

}  // namespace

struct Team::State {
    explicit State(int count) : count(count) {}

    const int count;
    const pid_t process = getpid();
    Turn start, meeting;
    std::atomic<int> arrived{0};
    bool over = false;  // written before `start` advances, as those below
    void (*work)(void*, int) = nullptr;
    void* context = nullptr;
    std::vector<std::thread> threads;
#if defined(__linux__)
    cpu_set_t usable;  // the caller's affinity, if `placed`
    bool placed = false;
#endif

    // Where an idle processor looks taken, as one of a virtual machine does once it halts, Linux wakes a thread on the
    // processor of whoever wakes it, and moves it with the next tick, milliseconds later: two threads then took as long as one.
    // So threads that sleep may wake wherever the caller may run but where it is, and have its whole affinity as soon as they
    // are awake.
    void keep_off_the_caller() {
#if defined(__linux__)
        placed = false;
        if (!start.somebody_sleeps()) return;
        const int here = sched_getcpu();
        if (here < 0 || here >= CPU_SETSIZE || sched_getaffinity(0, sizeof usable, &usable) != 0) return;
        if (CPU_COUNT(&usable) < count) return;
        cpu_set_t others = usable;
        CPU_CLR(here, &others);
        for (std::thread& each : threads) (void)pthread_setaffinity_np(each.native_handle(), sizeof others, &others);
        placed = true;
#endif
    }

    void run_anywhere() {
#if defined(__linux__)
        if (placed) (void)pthread_setaffinity_np(pthread_self(), sizeof usable, &usable);
#endif
    }

    void meet() {
        if (count == 1) return;
        const uint64_t before = meeting.now();
        if (arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == count) {
            arrived.store(0, std::memory_order_relaxed);
            meeting.advance();
        } else {
            meeting.wait(before, kPatience);
        }
    }

    bool is_here() const { return count == 1 || process == getpid(); }

    void act(int thread) {
        const PlainFloats plain;  // a new thread has its maker's
        work(context, thread);
    }

    void serve(int thread) {
        for (uint64_t before = 0;; before++) {
            start.wait(before);
            if (over) return;
            run_anywhere();
            act(thread);
            meet();
        }
    }

    void end() {
        over = true;
        start.advance();
        for (std::thread& each : threads) each.join();
        threads.clear();
    }
};

Team::Team(int count) : state_(new State(count < 1 ? 1 : count)) {
    try {
        for (int thread = 1; thread < state_->count; thread++) {
            state_->threads.emplace_back([state = state_.get(), thread] { state->serve(thread); });
        }
    } catch (const std::system_error& error) {
        state_->end();
        throw NoThreads("cannot start " + std::to_string(count) + " threads (" + error.code().message() + ")");
    } catch (...) {
        state_->end();
        throw;
    }
}

// In a fork nobody can wait for the threads: what they left behind stays until the process ends.
Team::~Team() {
    if (state_->is_here()) {
        state_->end();
    } else {
        (void)state_.release();
    }
}

void Team::demand_here() const {
    if (state_->is_here()) return;
    throw OtherProcess("its threads belong to the process that this one was forked from; open the model anew in this one");
}

int Team::count() const {
    return state_->count;
}

void Team::run(void (*work)(void*, int), void* context) {
    state_->work = work;
    state_->context = context;
    state_->keep_off_the_caller();
    state_->start.advance();
    state_->act(0);
    state_->meet();
}

void Team::barrier() {
    state_->meet();
}

}  // namespace edgefm
