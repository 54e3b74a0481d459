// Affinity and control groups as Linux has them; the only unit that asks for them.

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <sstream>
#include <vector>

#include "processors.h"

namespace edgefm {
namespace {

// The text, empty where there is no such file.
std::string read(const std::string& path) {
    std::ifstream file(path);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

std::vector<std::string> split(const std::string& text, char at) {
    std::vector<std::string> parts;
    std::istringstream stream(text);
    for (std::string part; std::getline(stream, part, at);) parts.push_back(part);
    return parts;
}

std::optional<int64_t> whole(const std::string& digits) {
    int64_t value = 0;
    const char* end = digits.data() + digits.size();
    const auto read = std::from_chars(digits.data(), end, value);
    if (digits.empty() || read.ec != std::errc() || read.ptr != end || value < 0) return {};
    return value;
}

std::optional<double> ratio(const std::string& quota, const std::string& period) {
    const std::optional<int64_t> above = whole(quota), below = whole(period);
    if (!above || !below || *below == 0) return {};
    return static_cast<double>(*above) / static_cast<double>(*below);
}

// `cpu.max` holds "QUOTA PERIOD" or "max PERIOD", microseconds.
std::optional<double> quota_v2(const std::string& folder) {
    std::istringstream text(read(folder + "/cpu.max"));
    std::string quota, period;
    text >> quota >> period;
    return ratio(quota, period);
}

// `cpu.cfs_quota_us` is -1 for no limit.
std::optional<double> quota_v1(const std::string& folder) {
    std::istringstream quotas(read(folder + "/cpu.cfs_quota_us")), periods(read(folder + "/cpu.cfs_period_us"));
    std::string quota, period;
    quotas >> quota;
    periods >> period;
    return ratio(quota, period);
}

int by_affinity() {
#if defined(__linux__)
    for (size_t most = 1024; most <= 1 << 20; most *= 2) {  // the call fails where the kernel's mask is longer
        cpu_set_t* set = CPU_ALLOC(most);
        if (set == nullptr) break;
        const size_t size = CPU_ALLOC_SIZE(most);
        CPU_ZERO_S(size, set);
        const int count = sched_getaffinity(0, size, set) == 0 ? CPU_COUNT_S(size, set) : 0;
        CPU_FREE(set);
        if (count > 0) return count;
    }
#endif
    return static_cast<int>(std::max(1L, sysconf(_SC_NPROCESSORS_ONLN)));
}

}  // namespace

std::optional<double> cgroup_quota(const std::string& root, const std::string& membership) {
    std::optional<double> least;
    for (const std::string& line : split(membership, '\n')) {
        const size_t first = line.find(':'), second = first == std::string::npos ? first : line.find(':', first + 1);
        if (second == std::string::npos) continue;
        const std::string controllers = line.substr(first + 1, second - first - 1);
        const std::vector<std::string> names = split(controllers, ',');
        const bool v2 = controllers.empty();
        if (!v2 && std::find(names.begin(), names.end(), "cpu") == names.end()) continue;
        std::vector<std::string> groups = {""};  // from the root downwards
        for (const std::string& part : split(line.substr(second + 1), '/')) {
            if (!part.empty() && part != "." && part != "..") groups.push_back(groups.back() + "/" + part);
        }
        for (const std::string& mount : v2 ? std::vector<std::string>{root, root + "/unified"}
                                           : std::vector<std::string>{root + "/" + controllers, root + "/cpu"}) {
            for (const std::string& group : groups) {
                const std::optional<double> quota = v2 ? quota_v2(mount + group) : quota_v1(mount + group);
                if (quota && (!least || *quota < *least)) least = quota;
            }
        }
    }
    return least;
}

int usable_processors() {
    const int threads = by_affinity();
    const std::optional<double> quota = cgroup_quota("/sys/fs/cgroup", read("/proc/self/cgroup"));
    return quota && *quota < threads ? std::max(1, static_cast<int>(std::ceil(*quota))) : threads;
}

}  // namespace edgefm
