// An image's bytes to the model's input, as edgevit/preprocess/images.py does it: the same geometry, Pillow's resampling
// with its fixed-point arithmetic, float32 throughout. The numbers are the same to the last bit.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "json.hpp"

struct Image {
    int width = 0, height = 0, channels = 0;  // channels: 1 or 3 (RGB), interleaved
    std::vector<std::uint8_t> bytes;
};

struct Preprocess {
    std::string mode, resize, interpolation;
    int height = 0, width = 0;
    double crop_fraction = 1;
    std::vector<float> mean, std;

    static Preprocess from(const json::Value& spec) {
        if (spec["kind"].text != "image") throw std::runtime_error("expected a model that takes images");
        Preprocess result;
        result.mode = spec["mode"].text;
        result.resize = spec["resize"].text;
        result.interpolation = spec["interpolation"].text;
        result.height = static_cast<int>(spec["size"].list.at(0).number);
        result.width = static_cast<int>(spec["size"].list.at(1).number);
        result.crop_fraction = spec["crop_fraction"].number;
        for (const auto& value : spec["mean"].list) result.mean.push_back(static_cast<float>(value.number));
        for (const auto& value : spec["std"].list) result.std.push_back(static_cast<float>(value.number));
        return result;
    }
};

namespace preprocess_detail {

constexpr int precision_bits = 22;

struct Taps {
    int first = 0;
    std::vector<std::int64_t> weights;
};

inline double sinc(double x) { return x == 0 ? 1 : std::sin(x * M_PI) / (x * M_PI); }

inline double filter(const std::string& name, double x) {
    const double distance = std::abs(x);
    if (name == "bilinear") return distance < 1 ? 1 - distance : 0;
    if (name == "lanczos") return -3 <= x && x < 3 ? sinc(x) * sinc(x / 3) : 0;
    constexpr double a = -0.5;  // bicubic
    if (distance < 1) return ((a + 2) * distance - (a + 3)) * distance * distance + 1;
    if (distance < 2) return (((distance - 5) * distance + 8) * distance - 4) * a;
    return 0;
}

// For every output position the first input it reads and its weights, in units of 2⁻²², as in Pillow's Resample.c.
inline std::vector<Taps> coefficients(int size, int goal, const std::string& name) {
    const double reach = name == "bilinear" ? 1 : name == "lanczos" ? 3 : 2;
    const double scale = static_cast<double>(size) / goal;
    const double stretch = std::max(scale, 1.0);
    const double support = reach * stretch;
    std::vector<Taps> result(static_cast<std::size_t>(goal));
    for (int index = 0; index < goal; ++index) {
        const double center = (index + 0.5) * scale;
        const int first = std::max(0, static_cast<int>(center - support + 0.5));
        const int last = std::min(size, static_cast<int>(center + support + 0.5));
        std::vector<double> weights;
        double total = 0;
        for (int i = 0; i < last - first; ++i) {
            weights.push_back(filter(name, (i + first - center + 0.5) * (1 / stretch)));
            total += weights.back();
        }
        auto& taps = result[static_cast<std::size_t>(index)];
        taps.first = first;
        for (double weight : weights) {
            const double value = (total == 0 ? weight : weight / total) * (1 << precision_bits);
            taps.weights.push_back(static_cast<std::int64_t>(value < 0 ? value - 0.5 : value + 0.5));
        }
    }
    return result;
}

inline std::uint8_t weighted(const std::uint8_t* values, std::size_t stride, const Taps& taps) {
    std::int64_t sum = std::int64_t{1} << (precision_bits - 1);
    for (std::size_t i = 0; i < taps.weights.size(); ++i)
        sum += values[(static_cast<std::size_t>(taps.first) + i) * stride] * taps.weights[i];
    return static_cast<std::uint8_t>(std::clamp<std::int64_t>(sum >> precision_bits, 0, 255));
}

// The input that each output is nearest to. Pillow adds the step up, and so rounds as a sum does, not a product.
inline std::vector<std::size_t> positions(int size, int goal) {
    const double step = static_cast<double>(size) / goal;
    double position = step * 0.5;
    std::vector<std::size_t> result;
    for (int index = 0; index < goal; ++index, position += step) result.push_back(static_cast<std::size_t>(position));
    return result;
}

using Plane = std::vector<std::uint8_t>;

inline Plane resized(Plane plane, int width, int height, int goal_width, int goal_height, const std::string& name) {
    const auto w = static_cast<std::size_t>(width), h = static_cast<std::size_t>(height);
    const auto gw = static_cast<std::size_t>(goal_width), gh = static_cast<std::size_t>(goal_height);
    if (name == "nearest") {
        const auto rows = positions(height, goal_height), columns = positions(width, goal_width);
        Plane result(gw * gh);
        for (std::size_t y = 0; y < gh; ++y)
            for (std::size_t x = 0; x < gw; ++x) result[y * gw + x] = plane[rows[y] * w + columns[x]];
        return result;
    }
    if (goal_width != width) {  // rows first, then columns, each only where the size changes
        const auto taps = coefficients(width, goal_width, name);
        Plane rows(gw * h);
        for (std::size_t y = 0; y < h; ++y)
            for (std::size_t x = 0; x < gw; ++x) rows[y * gw + x] = weighted(&plane[y * w], 1, taps[x]);
        plane = std::move(rows);
    }
    if (goal_height != height) {
        const auto taps = coefficients(height, goal_height, name);
        Plane columns(gw * gh);
        for (std::size_t y = 0; y < gh; ++y)
            for (std::size_t x = 0; x < gw; ++x) columns[y * gw + x] = weighted(&plane[x], gw, taps[y]);
        plane = std::move(columns);
    }
    return plane;
}

inline std::uint8_t picked(const Image& image, std::size_t pixel, char letter) {
    const auto* p = &image.bytes[pixel * static_cast<std::size_t>(image.channels)];
    if (image.channels == 1) return p[0];
    if (letter == 'R') return p[0];
    if (letter == 'G') return p[1];
    if (letter == 'B') return p[2];
    return static_cast<std::uint8_t>((p[0] * 19595 + p[1] * 38470 + p[2] * 7471 + 0x8000) >> 16);
}

// std::nearbyint rounds halves to even, as Python does.
inline int rounded(double value) { return static_cast<int>(std::nearbyint(value)); }

}  // namespace preprocess_detail

// One image as float32 (channels, height, width), flat, in the units of the specification.
inline std::vector<float> image_tensor(const Image& image, const Preprocess& spec) {
    using namespace preprocess_detail;
    const int goal_height = static_cast<int>(std::floor(spec.height / spec.crop_fraction));
    const int goal_width = static_cast<int>(std::floor(spec.width / spec.crop_fraction));
    int height = goal_height, width = goal_width;
    if (spec.resize != "exact" && goal_height == goal_width) {
        const int longer = static_cast<int>(static_cast<double>(goal_height) * std::max(image.height, image.width) /
                                            std::min(image.height, image.width));
        (image.height <= image.width ? width : height) = longer;
    } else if (spec.resize != "exact") {
        const double ratio = std::min(static_cast<double>(image.height) / goal_height,
                                      static_cast<double>(image.width) / goal_width);
        height = rounded(image.height / ratio);
        width = rounded(image.width / ratio);
    }
    const int top = rounded((height - spec.height) / 2.0), left = rounded((width - spec.width) / 2.0);
    std::vector<float> tensor;
    tensor.reserve(spec.mode.size() * static_cast<std::size_t>(spec.height) * static_cast<std::size_t>(spec.width));
    for (std::size_t channel = 0; channel < spec.mode.size(); ++channel) {
        Plane plane(static_cast<std::size_t>(image.width) * static_cast<std::size_t>(image.height));
        for (std::size_t i = 0; i < plane.size(); ++i) plane[i] = picked(image, i, spec.mode[channel]);
        plane = resized(std::move(plane), image.width, image.height, width, height, spec.interpolation);
        for (int y = 0; y < spec.height; ++y)
            for (int x = 0; x < spec.width; ++x) {
                const float byte = plane[static_cast<std::size_t>(top + y) * static_cast<std::size_t>(width) +
                                         static_cast<std::size_t>(left + x)];
                tensor.push_back((byte / 255.0f - spec.mean[channel]) / spec.std[channel]);
            }
    }
    return tensor;
}
