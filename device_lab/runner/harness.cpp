#include "harness.h"

#include <dirent.h>
#include <time.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <functional>
#include <map>
#include <utility>

namespace runner {
namespace {

constexpr int kContractVersion = 1;

// The warm-up of timing.py: it ends when the two averages have agreed for long enough.
constexpr double kFastWeight = 0.1;
constexpr double kSlowWeight = 0.005;
constexpr double kAgreement = 0.04;
constexpr int kMinAgreeingRuns = 40;
constexpr int kMinWarmupRuns = 30;

class UsageError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

int64_t now_ns(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

int num_tasks() {
  DIR* folder = opendir("/proc/self/task");
  if (folder == nullptr) throw std::runtime_error("cannot read /proc/self/task to count the threads");
  int count = 0;
  while (const dirent* entry = readdir(folder)) count += entry->d_name[0] != '.';
  closedir(folder);
  return count;
}

// Kept by the kernel, so that asking costs the timing nothing. VmHWM begins at exec; getrusage would carry
// over what the parent used before it.
int64_t peak_rss_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("VmHWM:", 0) == 0) return std::stoll(line.substr(6)) * 1024;
  }
  throw std::runtime_error("/proc/self/status has no VmHWM");
}

double number(const std::string& name, const std::string& text, double least) {
  size_t used = 0;
  double value = 0;
  try {
    value = std::stod(text, &used);
  } catch (const std::logic_error&) {
  }
  if (used == 0 || used != text.size() || !std::isfinite(value) || value < least)
    throw UsageError(name + "=" + text + " must be a number, at least " + std::to_string(static_cast<int>(least)));
  return value;
}

int whole(const std::string& name, const std::string& text) {
  const double value = number(name, text, 1);
  if (value != std::floor(value) || value > 1e9) throw UsageError(name + "=" + text + " must be a whole number");
  return static_cast<int>(value);
}

Mode mode_of(const std::string& text) {
  if (text == "time") return Mode::kTime;
  if (text == "profile") return Mode::kProfile;
  throw UsageError("--mode=" + text + " is neither time nor profile");
}

Options parse(int argc, char** argv) {
  std::map<std::string, std::string> given;
  for (int i = 1; i < argc; i += 2) {
    if (i + 1 == argc) throw UsageError(std::string(argv[i]) + " has no value");
    given[argv[i]] = argv[i + 1];
  }
  const auto take = [&given](const std::string& name) {
    const auto found = given.find(name);
    if (found == given.end()) throw UsageError(name + " is missing");
    const std::string value = found->second;
    given.erase(found);
    return value;
  };
  const auto take_whole = [&take](const std::string& name) { return whole(name, take(name)); };
  const auto take_seconds = [&take](const std::string& name) { return number(name, take(name), 0); };

  Options options;
  options.model = take("--model");
  options.num_threads = take_whole("--num-threads");
  options.sequence_length = take_whole("--sequence-length");
  options.batch_size = take_whole("--batch-size");
  options.token_limit = take_whole("--token-limit");
  options.min_runs = take_whole("--min-runs");
  options.min_timed_s = take_seconds("--min-timed-s");
  options.max_warmup_s = take_seconds("--max-warmup-s");
  if (given.count("--mode") != 0) options.mode = mode_of(take("--mode"));
  if (!given.empty()) throw UsageError("unknown argument " + given.begin()->first);
  return options;
}

int64_t timed_inference(Engine& engine) {
  const int64_t begin = now_ns(CLOCK_MONOTONIC);
  engine.infer();
  return now_ns(CLOCK_MONOTONIC) - begin;
}

int warm_up(Engine& engine, double max_warmup_s) {
  double left_ns = max_warmup_s * 1e9;
  double fast = 0;
  double slow = 0;
  int num_agreeing = 0;
  int num_runs = 0;
  bool has_settled = false;
  while (!has_settled && (num_runs == 0 || left_ns > 0)) {
    const double sample = static_cast<double>(timed_inference(engine));
    left_ns -= sample;
    // The first inference builds what later ones reuse and counts for neither average.
    if (num_runs > 0) {
      fast += std::max(kFastWeight, 1.0 / num_runs) * (sample - fast);
      slow += std::max(kSlowWeight, 1.0 / num_runs) * (sample - slow);
      num_agreeing = std::abs(fast - slow) <= kAgreement * slow ? num_agreeing + 1 : 0;
    }
    ++num_runs;
    has_settled = num_runs >= kMinWarmupRuns && num_agreeing > kMinAgreeingRuns;
  }
  return num_runs;
}

std::string json_string(const std::string& text) {
  std::string quoted = "\"";
  for (const unsigned char c : text) {
    char escaped[8];
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += static_cast<char>(c);
    } else if (c < 0x20) {
      std::snprintf(escaped, sizeof escaped, "\\u%04x", c);
      quoted += escaped;
    } else {
      quoted += static_cast<char>(c);
    }
  }
  return quoted + "\"";
}

// Python's json reads NaN and Infinity, so that a broken model is judged by its output.
std::string json_number(float value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
  char text[32];
  std::snprintf(text, sizeof text, "%.9g", static_cast<double>(value));
  return text;
}

template <typename Value, typename Write>
std::string json_list(const std::vector<Value>& values, Write write) {
  std::string text = "[";
  for (const Value& value : values) text += (text.size() > 1 ? ", " : "") + write(value);
  return text + "]";
}

std::string json_head(const Engine& engine) {
  return "{\"contract\": " + std::to_string(kContractVersion) + ", \"runtime\": " + json_string(engine.runtime()) +
         ", \"runtime_version\": " + json_string(engine.version());
}

struct Timing {
  int num_warmup_runs = 0;
  std::vector<int64_t> samples_ns;
  int64_t wall_ns = 0;
  int64_t cpu_ns = 0;
};

Timing time_inferences(Engine& engine, const Options& options) {
  Timing timing;
  timing.num_warmup_runs = warm_up(engine, options.max_warmup_s);
  const int64_t enough_ns = static_cast<int64_t>(options.min_timed_s * 1e9);
  timing.samples_ns.reserve(4096);
  const int64_t cpu_begin = now_ns(CLOCK_PROCESS_CPUTIME_ID);
  const int64_t begin = now_ns(CLOCK_MONOTONIC);
  do {
    timing.samples_ns.push_back(timed_inference(engine));
    timing.wall_ns = now_ns(CLOCK_MONOTONIC) - begin;
  } while (static_cast<int>(timing.samples_ns.size()) < options.min_runs || timing.wall_ns < enough_ns);
  timing.cpu_ns = now_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu_begin;
  return timing;
}

std::string measurement(Engine& engine, const Options& options, int num_tasks_before) {
  const Timing timing = time_inferences(engine, options);
  // The difference, because an emulator keeps a thread of its own in the same process.
  const int num_threads = num_tasks() - num_tasks_before + 1;
  const auto write_sample = [](int64_t sample) { return std::to_string(sample); };
  return json_head(engine) + ", \"num_threads\": " + std::to_string(num_threads) +
         ", \"num_warmup_runs\": " + std::to_string(timing.num_warmup_runs) +
         ", \"samples_ns\": " + json_list(timing.samples_ns, write_sample) +
         ", \"wall_ns\": " + std::to_string(timing.wall_ns) + ", \"cpu_ns\": " + std::to_string(timing.cpu_ns) +
         ", \"peak_rss_bytes\": " + std::to_string(peak_rss_bytes()) +
         ", \"output\": " + json_list(engine.output(), json_number) + "}";
}

std::string profile(Engine& engine, const Options& options) {
  for (int i = 0; i < options.min_runs; ++i) engine.infer();
  std::vector<OperatorTime> operators = engine.operator_times();
  std::stable_sort(operators.begin(), operators.end(),
                   [](const OperatorTime& a, const OperatorTime& b) { return a.total_ns > b.total_ns; });
  const auto write_operator = [](const OperatorTime& time) {
    return "{\"name\": " + json_string(time.name) + ", \"type\": " + json_string(time.type) +
           ", \"num_calls\": " + std::to_string(time.num_calls) + ", \"total_ns\": " + std::to_string(time.total_ns) +
           "}";
  };
  return json_head(engine) + ", \"num_runs\": " + std::to_string(options.min_runs) +
         ", \"operators\": " + json_list(operators, write_operator) + "}";
}

int fail(const std::exception& error, int exit_status) {
  // An engine quotes the bytes of a broken model; the line must stay one line of text.
  std::string message = error.what();
  std::replace_if(message.begin(), message.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  std::fprintf(stderr, "runner: error: %s\n", message.c_str());
  return exit_status;
}

int run(int argc, char** argv) {
  const Options options = parse(argc, argv);
  if (!std::ifstream(options.model)) throw std::runtime_error("--model=" + options.model + " cannot be read");
  const int num_tasks_before = num_tasks();
  const std::unique_ptr<Engine> engine = load_engine(options);
  const std::string line =
      options.mode == Mode::kProfile ? profile(*engine, options) : measurement(*engine, options, num_tasks_before);
  if (std::puts(line.c_str()) < 0 || std::fflush(stdout) != 0) throw std::runtime_error("cannot write to stdout");
  return 0;
}

}  // namespace

std::vector<int64_t> token_ids(const Options& options) {
  std::vector<int64_t> ids(static_cast<size_t>(options.batch_size) * options.sequence_length);
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int64_t>((i * 7919 + 101) % options.token_limit);
  return ids;
}

}  // namespace runner

int main(int argc, char** argv) {
  try {
    return runner::run(argc, argv);
  } catch (const runner::UsageError& error) {
    return runner::fail(error, 2);
  } catch (const std::exception& error) {
    return runner::fail(error, 1);
  }
}
