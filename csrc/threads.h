// A small team of threads that work together on one call and sleep between
// calls. Not a pool of tasks: every thread runs the same function, and they
// meet at barriers.
#pragma once

#include <memory>
#include <stdexcept>

namespace edgefm {

// The operating system starts no more threads.
class NoThreads : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

// This is a fork of the process that holds the threads: here they do not exist.
class OtherProcess : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

class Team {
  public:
    // `count` threads in all, the caller's among them: count - 1 are started here
    // and end with the team. Throws NoThreads.
    explicit Team(int count);
    ~Team();
    Team(const Team&) = delete;
    Team& operator=(const Team&) = delete;

    int count() const;

    // Throws OtherProcess in a fork of the process that made the team, unless the
    // caller's is its only thread. To be asked before each run.
    void demand_here() const;

    // Runs work(context, thread) on each thread 0..count-1, thread 0 being the
    // caller; returns when all are done. One run at a time: callers take a lock
    // of their own. `work` must not throw. Threads that slept get the
    // caller's affinity; its own stays. Whatever the threads' floats obey, in
    // `work` they are plain (float_environment.h).
    void run(void (*work)(void* context, int thread), void* context);

    // Inside a run: waits until every thread of the team has come here. A short
    // spin, then sleep.
    void barrier();

  private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace edgefm
