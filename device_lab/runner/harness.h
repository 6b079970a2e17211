// What every compiled runner shares: the command line, the warm-up, the clock and the line of JSON
// described in contract.py. An engine only has to load a model and run it.

#pragma once

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace runner {

enum class Mode { kTime, kProfile };

struct Options {
  std::string model;
  int num_threads = 0;
  int sequence_length = 0;
  int batch_size = 0;
  int token_limit = 0;
  int min_runs = 0;
  double min_timed_s = 0;
  double max_warmup_s = 0;
  Mode mode = Mode::kTime;
};

// Time spent in one operator of the model, over all profiled inferences.
struct OperatorTime {
  std::string name;
  std::string type;
  int64_t num_calls = 0;
  int64_t total_ns = 0;
};

// One loaded model. Throws std::runtime_error with a one-line message.
class Engine {
 public:
  virtual ~Engine() = default;
  virtual std::string runtime() const = 0;
  virtual std::string version() const = 0;
  virtual void infer() = 0;
  // The logits of the last inference.
  virtual std::vector<float> output() const = 0;
  // What the inferences so far spent their time on. Ends the profiling.
  virtual std::vector<OperatorTime> operator_times() = 0;
};

// The deterministic input of contract.py, one row of sequence_length ids after another.
std::vector<int64_t> token_ids(const Options& options);

// Defined by the engine the runner is linked with.
std::unique_ptr<Engine> load_engine(const Options& options);

}  // namespace runner
