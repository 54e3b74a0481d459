// The mapping of files on POSIX systems; the only unit that calls them for it.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>

#include "mapping.h"

namespace edgefm {
namespace {

class Descriptor {
  public:
    explicit Descriptor(const char* path) : number(open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {}
    ~Descriptor() {
        if (number >= 0) close(number);
    }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;

    const int number;
};

[[noreturn]] void refuse(const char* path, const std::string& what) {
    throw FileError(std::string(path) + " " + what);
}

[[noreturn]] void refuse_with_reason(const char* path, int error) {
    // generic_category, since strerror may share its text between threads
    refuse(path, "cannot be opened (" + std::generic_category().message(error) + ")");
}

}  // namespace

Mapping::Mapping(const char* path) {
    const Descriptor file(path);  // O_NONBLOCK: a pipe without a writer is refused below, not waited for
    if (file.number < 0) {
        if (errno == ENOENT) refuse(path, "does not exist");
        refuse_with_reason(path, errno);
    }
    struct stat status;
    if (fstat(file.number, &status) != 0) refuse_with_reason(path, errno);
    if (S_ISDIR(status.st_mode)) refuse(path, "is a folder; expected a .efm file");
    if (!S_ISREG(status.st_mode)) refuse(path, "is a device or a pipe; expected a .efm file");
    if (status.st_size == 0) refuse(path, "is empty; expected a .efm file");
    size_ = static_cast<size_t>(status.st_size);
    void* mapped = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.number, 0);
    if (mapped == MAP_FAILED) refuse_with_reason(path, errno);
    data_ = static_cast<const uint8_t*>(mapped);
}

Mapping::~Mapping() {
    munmap(const_cast<uint8_t*>(data_), size_);
}

void Mapping::forget(size_t start, size_t stop) const noexcept {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t first = (start + page - 1) / page * page, last = stop / page * page;
    if (first < last) madvise(const_cast<uint8_t*>(data_) + first, last - first, MADV_DONTNEED);
}

}  // namespace edgefm
