// Classifies images with an OpenVINO build of a bundle: reads the manifest for everything it needs to know.
//
//   classify BUNDLE IMAGE.ppm...      prints: path <tab> label <tab> softmax score
//
// Images are binary PPM or PGM (P6, P5), what `convert photo.jpg photo.ppm` or a camera's driver gives; an application
// hands its own uint8 frames to `image_tensor` instead.

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <openvino/openvino.hpp>

#include "json.hpp"
#include "preprocess.hpp"

namespace {

std::string content_of(const std::filesystem::path& path) {
    std::ifstream stream(path, std::ios::binary);
    if (!stream) throw std::runtime_error("expected " + path.string() + ", which cannot be read");
    return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

Image read_pnm(const std::string& path) {
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

// The fastest OpenVINO build within its parity budget; one that failed is never chosen.
const json::Value& chosen(const json::Value& manifest) {
    const json::Value* best = nullptr;
    double fastest = 0;
    for (const auto& build : manifest["builds"].list) {
        const bool executed = build["precision"].text == "float32" || build["precision"].text == "int8" ||
                              build["precision"].text == "float16" || build["precision"].text == "bfloat16";
        if (build["target"].text != "openvino" || build["verdict"].text == "failed" || !executed) continue;
        const auto& measured = build["latency_ms"];
        const double latency = measured.kind == json::Value::Kind::number ? measured.number : HUGE_VAL;
        if (best == nullptr || latency < fastest) {
            best = &build;
            fastest = latency;
        }
    }
    if (best == nullptr) throw std::runtime_error("expected an OpenVINO build within its budget in this bundle, found none");
    return *best;
}

ov::CompiledModel compiled(ov::Core& core, const std::filesystem::path& bundle, const json::Value& build) {
    const std::string name = build["target"].text + "-" + build["precision"].text;
    // Without this OpenVINO runs float layers in bfloat16 wherever the processor can.
    std::string hint = build["precision"].text == "bfloat16" ? "bf16" : "f32";
    if (build["options"].has("float_layers")) hint = build["options"]["float_layers"].text;
    return core.compile_model((bundle / name / "model.xml").string(), "CPU",
                              ov::AnyMap{{"INFERENCE_PRECISION_HINT", hint}, {"PERFORMANCE_HINT", "LATENCY"}});
}

void classify(ov::InferRequest& request, const json::Value& manifest, const std::string& path) {
    const Preprocess spec = Preprocess::from(manifest["preprocess"]);
    std::vector<float> tensor = image_tensor(read_pnm(path), spec);
    const ov::Shape shape{1, spec.mode.size(), static_cast<std::size_t>(spec.height), static_cast<std::size_t>(spec.width)};
    request.set_input_tensor(ov::Tensor(ov::element::f32, shape, tensor.data()));
    request.infer();
    const ov::Tensor scores = request.get_output_tensor(0);
    const float* begin = scores.data<const float>();
    const float* end = begin + scores.get_size();
    const float* best = std::max_element(begin, end);
    double total = 0;
    for (const float* score = begin; score != end; ++score) total += std::exp(static_cast<double>(*score) - *best);
    const auto index = static_cast<std::size_t>(best - begin);
    const auto& labels = manifest["labels"].list;
    const std::string label = index < labels.size() ? labels[index].text : std::to_string(index);
    std::printf("%s\t%s\t%.6f\n", path.c_str(), label.c_str(), 1 / total);
}

}  // namespace

int main(int count, char** arguments) {
    if (count < 3) {
        std::cerr << "usage: classify BUNDLE IMAGE.ppm...\n";
        return 2;
    }
    try {
        const std::filesystem::path bundle = arguments[1];
        const json::Value manifest = json::parse(content_of(bundle / "manifest.json"));
        if (manifest["task"].text != "image-classification")
            throw std::runtime_error("expected a bundle that classifies images, found " + manifest["task"].text);
        ov::Core core;
        ov::CompiledModel model = compiled(core, bundle, chosen(manifest));
        ov::InferRequest request = model.create_infer_request();
        for (int index = 2; index < count; ++index) classify(request, manifest, arguments[index]);
    } catch (const std::exception& error) {
        std::cerr << "classify: " << error.what() << "\n";
        return 1;
    }
    return 0;
}
