// The part of ONNX Runtime's C API that the runner calls.
//
// The engine's wheel has no header. Its table of functions only ever grows at the end, so a function is
// known by its position; the tests call every function named here.

#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

struct OrtEnv;
struct OrtStatus;
struct OrtMemoryInfo;
struct OrtSession;
struct OrtSessionOptions;
struct OrtRunOptions;
struct OrtValue;
struct OrtAllocator;
struct OrtTypeInfo;
struct OrtTensorTypeAndShapeInfo;

struct OrtApiBase {
  // Null if the library is older than the version asked for.
  const void* const* (*GetApi)(uint32_t version);
  const char* (*GetVersionString)();
};

const OrtApiBase* OrtGetApiBase();
}

namespace runner::ort {

// The version that brought AddExternalInitializersFromFilesInMemory, the youngest function here.
constexpr uint32_t kApiVersion = 18;

constexpr int kLogFatal = 4;
constexpr int kArenaAllocator = 1;
constexpr int kDefaultMemory = 0;
constexpr int kFloat = 1;
constexpr int kInt64 = 7;

// One function of the table: its position and its type.
template <size_t kPosition, typename... Arguments>
struct Function {
  using Call = OrtStatus* (*)(Arguments...);
  static Call in(const void* const* table) { return reinterpret_cast<Call>(const_cast<void*>(table[kPosition])); }
};

template <size_t kPosition, typename Object>
struct Release {
  using Call = void (*)(Object*);
  static Call in(const void* const* table) { return reinterpret_cast<Call>(const_cast<void*>(table[kPosition])); }
};

struct GetErrorMessage {
  using Call = const char* (*)(const OrtStatus*);
  static Call in(const void* const* table) { return reinterpret_cast<Call>(const_cast<void*>(table[2])); }
};

using CreateEnv = Function<3, int, const char*, OrtEnv**>;
using CreateSession = Function<7, const OrtEnv*, const char*, const OrtSessionOptions*, OrtSession**>;
using Run = Function<9, OrtSession*, const OrtRunOptions*, const char* const*, const OrtValue* const*, size_t,
                     const char* const*, size_t, OrtValue**>;
using CreateSessionOptions = Function<10, OrtSessionOptions**>;
using EnableProfiling = Function<14, OrtSessionOptions*, const char*>;
using SetIntraOpNumThreads = Function<24, OrtSessionOptions*, int>;
using SetInterOpNumThreads = Function<25, OrtSessionOptions*, int>;
using SessionGetInputCount = Function<30, const OrtSession*, size_t*>;
using SessionGetOutputCount = Function<31, const OrtSession*, size_t*>;
using SessionGetInputTypeInfo = Function<33, const OrtSession*, size_t, OrtTypeInfo**>;
using SessionGetInputName = Function<36, const OrtSession*, size_t, OrtAllocator*, char**>;
using SessionGetOutputName = Function<37, const OrtSession*, size_t, OrtAllocator*, char**>;
using CreateTensorWithDataAsOrtValue =
    Function<49, const OrtMemoryInfo*, void*, size_t, const int64_t*, size_t, int, OrtValue**>;
using GetTensorMutableData = Function<51, OrtValue*, void**>;
using CastTypeInfoToTensorInfo = Function<55, const OrtTypeInfo*, const OrtTensorTypeAndShapeInfo**>;
using GetTensorElementType = Function<60, const OrtTensorTypeAndShapeInfo*, int*>;
using GetTensorShapeElementCount = Function<64, const OrtTensorTypeAndShapeInfo*, size_t*>;
using GetTensorTypeAndShape = Function<65, const OrtValue*, OrtTensorTypeAndShapeInfo**>;
using CreateCpuMemoryInfo = Function<69, int, int, OrtMemoryInfo**>;
using AllocatorFree = Function<76, OrtAllocator*, void*>;
using GetAllocatorWithDefaultOptions = Function<78, OrtAllocator**>;
using ReleaseEnv = Release<92, OrtEnv>;
using ReleaseStatus = Release<93, OrtStatus>;
using ReleaseMemoryInfo = Release<94, OrtMemoryInfo>;
using ReleaseSession = Release<95, OrtSession>;
using ReleaseValue = Release<96, OrtValue>;
using ReleaseTypeInfo = Release<98, OrtTypeInfo>;
using ReleaseTensorTypeAndShapeInfo = Release<99, OrtTensorTypeAndShapeInfo>;
using ReleaseSessionOptions = Release<100, OrtSessionOptions>;
using SessionEndProfiling = Function<110, OrtSession*, OrtAllocator*, char**>;
using AddExternalInitializersFromFilesInMemory =
    Function<279, OrtSessionOptions*, const char* const*, char* const*, const size_t*, size_t>;

}  // namespace runner::ort
