// A small team of threads that work together on one call and sleep between
// calls. Not a pool of tasks: every thread runs the same function, and they
// meet at barriers.
#pragma once

#include <memory>

namespace edgefm {

class Team {
  public:
    // `count` threads in all, the caller's among them: count - 1 are started here
    // and end with the team.
    explicit Team(int count);
    ~Team();
    Team(const Team&) = delete;
    Team& operator=(const Team&) = delete;

    int count() const;

    // Runs work(context, thread) on each thread 0..count-1, thread 0 being the
    // caller; returns when all are done. One run at a time: callers take a lock
    // of their own. `work` must not throw.
    void run(void (*work)(void* context, int thread), void* context);

    // Inside a run: waits until every thread of the team has come here. A short
    // spin, then sleep.
    void barrier();

  private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace edgefm
