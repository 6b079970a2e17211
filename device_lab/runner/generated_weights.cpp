#include "generated_weights.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <fstream>

namespace runner {
namespace {

const std::string kPrefix = "generated-";
const std::string kSuffix = ".weights";
constexpr size_t kMaxDigits = 12;
constexpr size_t kMaxName = 40;
constexpr size_t kChunk = 1 << 20;
constexpr size_t kPeriod = 1 << 22;

// The name that starts at a position of the text, or "".
std::string name_at(const std::string& text, size_t begin) {
  const size_t digits = begin + kPrefix.size();
  const size_t end = text.find_first_not_of("0123456789", digits);
  if (end == std::string::npos || end == digits || end - digits > kMaxDigits) return "";
  if (text.compare(end, kSuffix.size(), kSuffix) != 0) return "";
  return text.substr(begin, end + kSuffix.size() - begin);
}

// A hash of the index, spread over (-0.05, 0.05). One rounding only, so that every machine gives the same bits.
float weight(uint32_t index) {
  uint32_t bits = index * 0x9E3779B1u;
  bits = (bits ^ (bits >> 15)) * 0x85EBCA77u;
  bits ^= bits >> 13;
  return static_cast<float>(static_cast<int32_t>(bits >> 8) - 8388608) * (0.05f / 8388608.0f);
}

}  // namespace

std::string find_generated_weights(const std::string& model_path) {
  // In pieces: a model of 340 MB must not count towards the peak memory.
  std::ifstream file(model_path, std::ios::binary);
  std::string window;
  std::string chunk(kChunk, '\0');
  while (file.read(&chunk[0], static_cast<std::streamsize>(chunk.size())) || file.gcount() > 0) {
    window.append(chunk, 0, static_cast<size_t>(file.gcount()));
    for (size_t at = window.find(kPrefix); at != std::string::npos; at = window.find(kPrefix, at + 1)) {
      const std::string name = name_at(window, at);
      if (!name.empty()) return name;
    }
    if (window.size() > kMaxName) window.erase(0, window.size() - kMaxName);
  }
  return "";
}

std::vector<char> generate_weights(const std::string& name) {
  const size_t num_bytes = std::stoull(name.substr(kPrefix.size()));
  std::vector<char> bytes(num_bytes);
  const size_t num_hashed = std::min(num_bytes / sizeof(float), kPeriod);
  for (size_t i = 0; i < num_hashed; ++i) {
    const float value = weight(static_cast<uint32_t>(i));
    std::memcpy(&bytes[i * sizeof(float)], &value, sizeof value);
  }
  // The rest repeats it, in memory of its own.
  constexpr size_t kPeriodBytes = kPeriod * sizeof(float);
  for (size_t start = kPeriodBytes; start < num_bytes; start += kPeriodBytes) {
    std::memcpy(&bytes[start], &bytes[0], std::min(kPeriodBytes, num_bytes - start));
  }
  return bytes;
}

}  // namespace runner
