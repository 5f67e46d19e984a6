// What every C++ program here does alike, whatever engine runs the build: reads the bundle's manifest and images, chooses
// a build, and prints the best label.
#pragma once

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include "json.hpp"
#include "preprocess.hpp"

inline std::string content_of(const std::filesystem::path& path) {
    std::ifstream stream(path, std::ios::binary);
    if (!stream) throw std::runtime_error("expected " + path.string() + ", which cannot be read");
    return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

inline Image read_pnm(const std::string& path) {
    const std::string content = content_of(path);
    std::size_t at = 2;
    const auto number = [&]() {
        while (at < content.size() && (std::isspace(static_cast<unsigned char>(content[at])) || content[at] == '#')) {
            if (content[at] == '#')
                while (at < content.size() && content[at] != '\n') ++at;
            else
                ++at;
        }
        int value = 0;
        while (at < content.size() && std::isdigit(static_cast<unsigned char>(content[at])) && value < (1 << 24))
            value = 10 * value + (content[at++] - '0');
        return value;
    };
    Image image;
    image.channels = content.rfind("P6", 0) == 0 ? 3 : content.rfind("P5", 0) == 0 ? 1 : 0;
    if (image.channels == 0) throw std::runtime_error("expected a binary PPM or PGM at " + path + ", found something else");
    image.width = number();
    image.height = number();
    const int largest = number();
    ++at;
    const auto count = static_cast<std::size_t>(image.width) * static_cast<std::size_t>(image.height) *
                       static_cast<std::size_t>(image.channels);
    if (largest != 255 || count == 0 || at + count > content.size())
        throw std::runtime_error("expected eight-bit pixels to the end of " + path + "; it is damaged or of another depth");
    image.bytes.assign(content.begin() + static_cast<std::ptrdiff_t>(at),
                       content.begin() + static_cast<std::ptrdiff_t>(at + count));
    return image;
}

// The manifest of a bundle that classifies images.
inline json::Value read_manifest(const std::filesystem::path& bundle) {
    json::Value manifest = json::parse(content_of(bundle / "manifest.json"));
    if (manifest["task"].text != "image-classification")
        throw std::runtime_error("expected a bundle that classifies images, found " + manifest["task"].text);
    return manifest;
}

// The fastest build of that target within its parity budget; one that failed is never chosen. `engine` is its name for
// people, `precisions` what this program opens.
inline const json::Value& chosen(const json::Value& manifest, const std::string& target, const std::string& engine,
                                 const std::vector<std::string>& precisions) {
    const json::Value* best = nullptr;
    double fastest = 0;
    for (const auto& build : manifest["builds"].list) {
        const bool opened = std::find(precisions.begin(), precisions.end(), build["precision"].text) != precisions.end();
        if (build["target"].text != target || build["verdict"].text == "failed" || !opened) continue;
        const auto& measured = build["latency_ms"];
        const double latency = measured.kind == json::Value::Kind::number ? measured.number : HUGE_VAL;
        if (best == nullptr || latency < fastest) {
            best = &build;
            fastest = latency;
        }
    }
    if (best == nullptr)
        throw std::runtime_error("expected an " + engine + " build within its budget in this bundle, found none");
    return *best;
}

// path <tab> label <tab> softmax score of the largest of the scores.
inline void print_best(const json::Value& manifest, const std::string& path, const float* begin, const float* end) {
    const float* best = std::max_element(begin, end);
    double total = 0;
    for (const float* score = begin; score != end; ++score) total += std::exp(static_cast<double>(*score) - *best);
    const auto index = static_cast<std::size_t>(best - begin);
    const auto& labels = manifest["labels"].list;
    const std::string label = index < labels.size() ? labels[index].text : std::to_string(index);
    std::printf("%s\t%s\t%.6f\n", path.c_str(), label.c_str(), 1 / total);
}
