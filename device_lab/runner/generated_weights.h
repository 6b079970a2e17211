// Weights made on the device, so that a large model is timed without sending its weights.
//
// A model asks for them by keeping its initialisers in one external file called
// "generated-BYTES.weights"; weights.py describes the same numbers in Python.

#pragma once

#include <string>
#include <vector>

namespace runner {

// The name of the file of generated weights that a model file asks for, or "".
std::string find_generated_weights(const std::string& model_path);

// The content of the file of that name.
std::vector<char> generate_weights(const std::string& name);

}  // namespace runner
