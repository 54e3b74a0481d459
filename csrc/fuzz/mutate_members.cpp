// A libFuzzer mutator that changes one member of a bundle and makes everything else fit, so that the parsers behind the digests
// are reached. Not a target of its own: it is linked with open_bundle.cpp.

#include <cstdint>
#include <cstring>

#include "repair.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t most);

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t most, unsigned seed) {
    edgefm::Files files = edgefm::unpack(std::string(reinterpret_cast<const char*>(data), size));
    if (files.empty() || seed % 16 == 0) return LLVMFuzzerMutate(data, size, most);
    // The two that are parsed come up more often than others.
    size_t which = seed / 16 % (2 * files.size());
    if (which >= files.size()) which = 0;
    std::string& changed = seed / 16 % 64 == 0 ? files[which].first : files[which].second;
    std::string room = changed;
    room.resize(changed.size() + 64);
    room.resize(LLVMFuzzerMutate(reinterpret_cast<uint8_t*>(room.data()), changed.size(), room.size()));
    changed = room;
    const std::string made = edgefm::pack(files);
    if (made.size() > most) return LLVMFuzzerMutate(data, size, most);
    std::memcpy(data, made.data(), made.size());
    return made.size();
}
