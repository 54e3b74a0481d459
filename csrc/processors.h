// How many threads this process may really run at once: edgefm/runtime/cpu.py in C++.
// Not how many processors the machine has.
#pragma once

#include <optional>
#include <string>

namespace edgefm {

// At least 1: the affinity mask, cut to the control group's quota (rounded up).
int usable_processors();

// The smallest quota, in processors, of the control groups that `membership` names and of all above them; nothing for no limit.
// root: where their file systems are mounted; membership: the text of /proc/self/cgroup, lines of `id:controllers:path`.
std::optional<double> cgroup_quota(const std::string& root, const std::string& membership);

}  // namespace edgefm
