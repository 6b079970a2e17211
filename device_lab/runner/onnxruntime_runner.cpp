// Runs an ONNX model with ONNX Runtime's C API.

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>

#include "generated_weights.h"
#include "harness.h"
#include "onnxruntime_api.h"

namespace runner {
namespace {

const void* const* api() {
  static const void* const* const table = OrtGetApiBase()->GetApi(ort::kApiVersion);
  if (table == nullptr) {
    throw std::runtime_error(std::string("onnxruntime ") + OrtGetApiBase()->GetVersionString() +
                             " is too old; the runner needs 1." + std::to_string(ort::kApiVersion));
  }
  return table;
}

template <typename Function, typename... Arguments>
void call(Arguments... arguments) {
  OrtStatus* const status = Function::in(api())(arguments...);
  if (status == nullptr) return;
  const std::string message = ort::GetErrorMessage::in(api())(status);
  ort::ReleaseStatus::in(api())(status);
  throw std::runtime_error("onnxruntime: " + message);
}

template <typename Object, typename Release>
struct Deleter {
  void operator()(Object* object) const { Release::in(api())(object); }
};

template <typename Object, typename Release>
using Handle = std::unique_ptr<Object, Deleter<Object, Release>>;

using Env = Handle<OrtEnv, ort::ReleaseEnv>;
using SessionOptions = Handle<OrtSessionOptions, ort::ReleaseSessionOptions>;
using Session = Handle<OrtSession, ort::ReleaseSession>;
using MemoryInfo = Handle<OrtMemoryInfo, ort::ReleaseMemoryInfo>;
using Value = Handle<OrtValue, ort::ReleaseValue>;
using TypeInfo = Handle<OrtTypeInfo, ort::ReleaseTypeInfo>;
using TensorInfo = Handle<OrtTensorTypeAndShapeInfo, ort::ReleaseTensorTypeAndShapeInfo>;

// Calls a function whose last argument takes the new object.
template <typename Owner, typename Function, typename... Arguments>
Owner create(Arguments... arguments) {
  typename Owner::pointer object = nullptr;
  call<Function>(arguments..., &object);
  return Owner(object);
}

// Copies and frees a text the library allocated.
template <typename Function, typename... Arguments>
std::string text(Arguments... arguments) {
  OrtAllocator* allocator = nullptr;
  call<ort::GetAllocatorWithDefaultOptions>(&allocator);
  char* allocated = nullptr;
  call<Function>(arguments..., allocator, &allocated);
  const std::string copy = allocated;
  call<ort::AllocatorFree>(allocator, static_cast<void*>(allocated));
  return copy;
}

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

// The value of a field of one line of the engine's trace: a number, or a string without its quotes.
std::string field(const std::string& line, const std::string& name) {
  const std::string key = "\"" + name + "\"";
  size_t begin = line.find(key);
  if (begin == std::string::npos) return "";
  begin = line.find_first_not_of(" :", begin + key.size());
  if (begin == std::string::npos) return "";
  if (line[begin] == '"') return line.substr(begin + 1, line.find('"', begin + 1) - begin - 1);
  return line.substr(begin, line.find_first_of(",}", begin) - begin);
}

class OnnxRuntimeEngine : public Engine {
 public:
  explicit OnnxRuntimeEngine(const Options& options)
      : ids_(token_ids(options)),
        ones_(ids_.size(), 1),
        zeros_(ids_.size(), 0),
        env_(create<Env, ort::CreateEnv>(ort::kLogFatal, "runner")) {
    const SessionOptions session_options = create<SessionOptions, ort::CreateSessionOptions>();
    call<ort::SetIntraOpNumThreads>(session_options.get(), options.num_threads);
    call<ort::SetInterOpNumThreads>(session_options.get(), 1);
    if (options.mode == Mode::kProfile) {
      // Beside the model, because a phone has no /tmp.
      const std::string prefix = folder_of(options.model) + "/profile";
      call<ort::EnableProfiling>(session_options.get(), prefix.c_str());
    }
    std::vector<char> weights;
    const std::string weights_name = find_generated_weights(options.model);
    if (!weights_name.empty()) {
      weights = generate_weights(weights_name);
      const char* names[] = {weights_name.c_str()};
      char* contents[] = {weights.data()};
      const size_t lengths[] = {weights.size()};
      call<ort::AddExternalInitializersFromFilesInMemory>(session_options.get(), names, contents, lengths, size_t{1});
    }
    session_ = create<Session, ort::CreateSession>(env_.get(), options.model.c_str(), session_options.get());
    bind_inputs({options.batch_size, options.sequence_length});
    bind_output();
  }

  std::string runtime() const override { return "onnxruntime"; }

  std::string version() const override { return OrtGetApiBase()->GetVersionString(); }

  void infer() override {
    const char* const outputs[] = {output_name_.c_str()};
    OrtValue* result = nullptr;
    call<ort::Run>(session_.get(), nullptr, names_.data(), values_.data(), values_.size(), outputs, size_t{1},
                   &result);
    result_.reset(result);
  }

  std::vector<float> output() const override {
    const TensorInfo info = create<TensorInfo, ort::GetTensorTypeAndShape>(result_.get());
    int type = 0;
    size_t count = 0;
    call<ort::GetTensorElementType>(info.get(), &type);
    if (type != ort::kFloat) throw std::runtime_error("output " + output_name_ + " is not float32");
    call<ort::GetTensorShapeElementCount>(info.get(), &count);
    void* data = nullptr;
    call<ort::GetTensorMutableData>(result_.get(), &data);
    const float* const logits = static_cast<const float*>(data);
    return {logits, logits + count};
  }

  std::vector<OperatorTime> operator_times() override {
    const std::string path = text<ort::SessionEndProfiling>(session_.get());
    const std::string ending = "_kernel_time";
    std::map<std::string, OperatorTime> times;
    std::ifstream trace(path);
    for (std::string line; std::getline(trace, line);) {
      std::string name = field(line, "name");
      const size_t stem = name.size() < ending.size() ? 0 : name.size() - ending.size();
      if (field(line, "cat") != "Node" || name.compare(stem, std::string::npos, ending) != 0) continue;
      name.resize(stem);
      OperatorTime& time = times[name];
      time.name = name;
      time.type = field(line, "op_name");
      time.num_calls += 1;
      time.total_ns += std::stoll(field(line, "dur")) * 1000;
    }
    trace.close();
    std::remove(path.c_str());
    if (times.empty()) throw std::runtime_error("onnxruntime wrote no operator times to " + path);
    std::vector<OperatorTime> sorted;
    for (const auto& named : times) sorted.push_back(named.second);
    return sorted;
  }

 private:
  void bind_inputs(const std::vector<int64_t>& shape) {
    const std::map<std::string, std::vector<int64_t>*> known = {
        {"input_ids", &ids_}, {"attention_mask", &ones_}, {"token_type_ids", &zeros_}};
    const MemoryInfo memory =
        create<MemoryInfo, ort::CreateCpuMemoryInfo>(ort::kArenaAllocator, ort::kDefaultMemory);
    size_t count = 0;
    call<ort::SessionGetInputCount>(session_.get(), &count);
    for (size_t i = 0; i < count; ++i) {
      const auto found = known.find(text<ort::SessionGetInputName>(session_.get(), i));
      if (found == known.end() || !is_int64(i)) {
        throw std::runtime_error("input " + text<ort::SessionGetInputName>(session_.get(), i) +
                                 " must be input_ids, attention_mask or token_type_ids, of type int64");
      }
      inputs_.push_back(create<Value, ort::CreateTensorWithDataAsOrtValue>(
          memory.get(), static_cast<void*>(found->second->data()), found->second->size() * sizeof(int64_t),
          shape.data(), shape.size(), ort::kInt64));
      input_names_.push_back(found->first);
    }
    for (size_t i = 0; i < count; ++i) {
      names_.push_back(input_names_[i].c_str());
      values_.push_back(inputs_[i].get());
    }
  }

  bool is_int64(size_t index) const {
    const TypeInfo info = create<TypeInfo, ort::SessionGetInputTypeInfo>(session_.get(), index);
    const OrtTensorTypeAndShapeInfo* tensor = nullptr;
    call<ort::CastTypeInfoToTensorInfo>(info.get(), &tensor);
    int type = 0;
    if (tensor != nullptr) call<ort::GetTensorElementType>(tensor, &type);
    return type == ort::kInt64;
  }

  void bind_output() {
    size_t count = 0;
    call<ort::SessionGetOutputCount>(session_.get(), &count);
    if (count != 1) throw std::runtime_error("the model has " + std::to_string(count) + " outputs, it must have one");
    output_name_ = text<ort::SessionGetOutputName>(session_.get(), size_t{0});
  }

  std::vector<int64_t> ids_;
  std::vector<int64_t> ones_;
  std::vector<int64_t> zeros_;
  Env env_;
  Session session_;
  std::vector<Value> inputs_;
  std::vector<std::string> input_names_;
  std::vector<const char*> names_;
  std::vector<const OrtValue*> values_;
  std::string output_name_;
  Value result_;
};

}  // namespace

std::unique_ptr<Engine> load_engine(const Options& options) {
  // From 1.32 on the library reports to its maker unless told not to, from a thread of its own that would
  // disturb the times and be counted with the threads. It looks when the first environment is made.
  setenv("ORT_DISABLE_TELEMETRY", "1", 1);
  return std::make_unique<OnnxRuntimeEngine>(options);
}

}  // namespace runner
