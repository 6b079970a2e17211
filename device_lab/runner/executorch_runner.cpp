// Runs a .pte program with ExecuTorch's Module API, on the XNNPACK and portable kernels linked in.

#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor_ptr_maker.h>
#include <executorch/runtime/core/error.h>
#include <executorch/runtime/core/event_tracer.h>
#include <executorch/runtime/platform/clock.h>
#include <executorch/runtime/platform/platform.h>

#include <time.h>

#include <cstdio>

#include <map>

#include "harness.h"

// The wheel leaves out threadpool.h; its library exports these two functions.
namespace executorch::extension::threadpool {
class ThreadPool {
 public:
  bool _unsafe_reset_threadpool(uint32_t num_threads);
};
ThreadPool* get_threadpool();
}  // namespace executorch::extension::threadpool

namespace runner {
namespace {

namespace et = executorch::runtime;
using executorch::aten::ScalarType;
using executorch::aten::Tensor;
using executorch::extension::Module;
using executorch::extension::TensorPtr;

constexpr char kMethod[] = "forward";

// The engine explains an error in its log only.
std::string last_log_error;

void keep_log_error(et_timestamp_t, et_pal_log_level_t level, const char*, const char*, size_t, const char* message,
                    size_t length) {
  if (level == et_pal_log_level_t::kError) last_log_error.assign(message, length);
  // After a fatal message it aborts.
  if (level == et_pal_log_level_t::kFatal) {
    std::fprintf(stderr, "runner: error: executorch: %.*s\n", static_cast<int>(length), message);
  }
}

void check(et::Error error, const std::string& action) {
  if (error == et::Error::Ok) return;
  const std::string reason = last_log_error.empty() ? "" : " (" + last_log_error + ")";
  throw std::runtime_error("executorch: " + action + " failed: " + et::to_string(error) + reason);
}

int64_t monotonic_ns() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

// Adds up the time of each operator the engine announces: kernels of its own, and those of its delegate.
class Tracer : public et::EventTracer {
 public:
  std::vector<OperatorTime> times() const {
    std::vector<OperatorTime> times;
    for (const auto& named : times_) times.push_back(named.second);
    return times;
  }

  et::EventTracerEntry start_profiling(const char* name, et::ChainID chain, et::DebugHandle handle) override {
    return begin(name, chain, handle, et::DelegateDebugIdType::kNone);
  }

  void end_profiling(et::EventTracerEntry entry) override {
    const std::string name = end(entry);
    // Other events are whole methods and delegates; their operators would count twice.
    if (name.rfind(kKernelPrefix, 0) == 0) add(name.substr(sizeof kKernelPrefix - 1), "kernel", elapsed_ns_);
  }

  et::EventTracerEntry start_profiling_delegate(const char* name, et::DelegateDebugIntId index) override {
    return begin(delegate_name(name, index), -1, 0, et::DelegateDebugIdType::kStr);
  }

  void end_profiling_delegate(et::EventTracerEntry entry, const void*, size_t) override {
    const std::string name = end(entry);
    add(name, "delegate", elapsed_ns_);
  }

  void log_profiling_delegate(const char* name, et::DelegateDebugIntId index, et_timestamp_t start,
                              et_timestamp_t stop, const void*, size_t) override {
    const et_tick_ratio_t ratio = et::pal_ticks_to_ns_multiplier();
    add(delegate_name(name, index), "delegate",
        static_cast<int64_t>((stop - start) * ratio.numerator / ratio.denominator));
  }

  void create_event_block(const char*) override {}
  void track_allocation(et::AllocatorID, size_t) override {}
  et::AllocatorID track_allocator(const char*) override { return 0; }
  et::Result<bool> log_evalue(const et::EValue&, et::LoggedEValueType) override { return false; }
  et::Result<bool> log_intermediate_output_delegate(const char*, et::DelegateDebugIntId, const Tensor&) override {
    return false;
  }
  et::Result<bool> log_intermediate_output_delegate(const char*, et::DelegateDebugIntId,
                                                    const et::ArrayRef<Tensor>) override {
    return false;
  }
  et::Result<bool> log_intermediate_output_delegate(const char*, et::DelegateDebugIntId, const int&) override {
    return false;
  }
  et::Result<bool> log_intermediate_output_delegate(const char*, et::DelegateDebugIntId, const bool&) override {
    return false;
  }
  et::Result<bool> log_intermediate_output_delegate(const char*, et::DelegateDebugIntId, const double&) override {
    return false;
  }
  void set_delegation_intermediate_output_filter(et::EventTracerFilterBase*) override {}

 private:
  static constexpr char kKernelPrefix[] = "native_call_";

  struct Open {
    std::string name;
    int64_t begin_ns;
  };

  static std::string delegate_name(const char* name, et::DelegateDebugIntId index) {
    return name == nullptr ? "delegate " + std::to_string(index) : name;
  }

  et::EventTracerEntry begin(const std::string& name, et::ChainID chain, et::DebugHandle handle,
                             et::DelegateDebugIdType kind) {
    const int64_t id = next_id_++;
    open_[id] = {name, monotonic_ns()};
    return {id, chain, handle, 0, kind};
  }

  // Closes an event and returns its name.
  std::string end(const et::EventTracerEntry& entry) {
    const int64_t end_ns = monotonic_ns();
    const Open open = open_.at(entry.event_id);
    open_.erase(entry.event_id);
    elapsed_ns_ = end_ns - open.begin_ns;
    return open.name;
  }

  void add(const std::string& name, const std::string& type, int64_t ns) {
    OperatorTime& time = times_[name];
    time.name = name;
    time.type = type;
    time.num_calls += 1;
    time.total_ns += ns;
  }

  std::map<std::string, OperatorTime> times_;
  std::map<int64_t, Open> open_;
  int64_t next_id_ = 0;
  int64_t elapsed_ns_ = 0;
};

class ExecutorchEngine : public Engine {
 public:
  explicit ExecutorchEngine(const Options& options)
      : ids_(token_ids(options)), ones_(ids_.size(), 1), zeros_(ids_.size(), 0) {
    auto* const pool = executorch::extension::threadpool::get_threadpool();
    if (pool == nullptr || !pool->_unsafe_reset_threadpool(static_cast<uint32_t>(options.num_threads)))
      throw std::runtime_error("executorch: --num-threads=" + std::to_string(options.num_threads) + " was refused");
    std::unique_ptr<Tracer> tracer = options.mode == Mode::kProfile ? std::make_unique<Tracer>() : nullptr;
    tracer_ = tracer.get();
    module_ = std::make_unique<Module>(options.model, Module::LoadMode::Mmap, std::move(tracer));
    check(module_->load(et::Program::Verification::InternalConsistency), "loading " + options.model);
    check(module_->load_method(kMethod), "loading " + options.model);
    const auto meta = module_->method_meta(kMethod);
    check(meta.error(), "reading " + options.model);
    std::vector<int64_t>* const known[] = {&ids_, &ones_, &zeros_};
    const size_t num_inputs = meta->num_inputs();
    if (num_inputs < 1 || num_inputs > 3)
      throw std::runtime_error("the model has " + std::to_string(num_inputs) +
                               " inputs; they must be input_ids, attention_mask and token_type_ids");
    for (size_t i = 0; i < num_inputs; ++i) {
      tensors_.push_back(executorch::extension::from_blob(
          known[i]->data(), {options.batch_size, options.sequence_length}, ScalarType::Long));
      inputs_.emplace_back(*tensors_.back());
    }
  }

  std::string runtime() const override { return "executorch"; }

  std::string version() const override { return RUNTIME_VERSION; }

  void infer() override {
    auto result = module_->execute(kMethod, inputs_);
    check(result.error(), "an inference");
    outputs_ = std::move(*result);
  }

  std::vector<float> output() const override {
    if (outputs_.size() != 1 || !outputs_[0].isTensor())
      throw std::runtime_error("the model must have one output, a tensor");
    const Tensor& logits = outputs_[0].toTensor();
    if (logits.scalar_type() != ScalarType::Float) throw std::runtime_error("the output is not float32");
    const float* const data = logits.const_data_ptr<float>();
    return {data, data + logits.numel()};
  }

  std::vector<OperatorTime> operator_times() override {
    std::vector<OperatorTime> times = tracer_->times();
    if (times.empty()) throw std::runtime_error("executorch announced no events; it was built without its tracer");
    return times;
  }

 private:
  std::vector<int64_t> ids_;
  std::vector<int64_t> ones_;
  std::vector<int64_t> zeros_;
  Tracer* tracer_ = nullptr;
  std::unique_ptr<Module> module_;
  std::vector<TensorPtr> tensors_;
  std::vector<et::EValue> inputs_;
  std::vector<et::EValue> outputs_;
};

}  // namespace

std::unique_ptr<Engine> load_engine(const Options& options) {
  et::register_pal(et::PalImpl::create(keep_log_error, __FILE__));
  return std::make_unique<ExecutorchEngine>(options);
}

}  // namespace runner
