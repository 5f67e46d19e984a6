// Classifies images with an OpenVINO build of a bundle: reads the manifest for everything it needs to know.
//
//   classify BUNDLE IMAGE.ppm...      prints: path <tab> label <tab> softmax score
//
// Images are binary PPM or PGM (P6, P5), what `convert photo.jpg photo.ppm` or a camera's driver gives; an application
// hands its own uint8 frames to `image_tensor` instead.

#include <filesystem>
#include <iostream>
#include <openvino/openvino.hpp>

#include "bundle.hpp"

namespace {

ov::CompiledModel compiled(ov::Core& core, const std::filesystem::path& bundle, const json::Value& build) {
    const std::string name = build["target"].text + "-" + build["precision"].text;
    // Without this OpenVINO runs float layers in bfloat16 wherever the processor can.
    std::string hint = build["precision"].text == "bfloat16" ? "bf16" : "f32";
    if (build["options"].has("float_layers")) hint = build["options"]["float_layers"].text;
    return core.compile_model((bundle / name / "model.xml").string(), "CPU",
                              ov::AnyMap{{"INFERENCE_PRECISION_HINT", hint}, {"PERFORMANCE_HINT", "LATENCY"}});
}

// Whether the preprocessing is inside the build, which then takes the image as it is.
bool takes_pixels(const json::Value& build) {
    const auto& options = build["options"];
    return options.has("input") && options["input"].text == "pixels";
}

// The pixels as a batch of one, uint8 (1, height, width, 3), RGB; grey is three equal colours.
std::vector<std::uint8_t> rgb_of(const Image& image) {
    if (image.channels == 3) return image.bytes;
    std::vector<std::uint8_t> pixels;
    pixels.reserve(3 * image.bytes.size());
    for (const std::uint8_t level : image.bytes) pixels.insert(pixels.end(), 3, level);
    return pixels;
}

void classify_pixels(ov::InferRequest& request, const json::Value& manifest, const std::string& path) {
    const Image image = read_pnm(path);
    std::vector<std::uint8_t> pixels = rgb_of(image);
    const ov::Shape shape{1, static_cast<std::size_t>(image.height), static_cast<std::size_t>(image.width), 3};
    request.set_input_tensor(ov::Tensor(ov::element::u8, shape, pixels.data()));
    request.infer();
    const ov::Tensor scores = request.get_output_tensor(0);
    print_best(manifest, path, scores.data<const float>(), scores.data<const float>() + scores.get_size());
}

void classify(ov::InferRequest& request, const json::Value& manifest, const std::string& path) {
    const Preprocess spec = Preprocess::from(manifest["preprocess"]);
    std::vector<float> tensor = image_tensor(read_pnm(path), spec);
    const ov::Shape shape{1, spec.mode.size(), static_cast<std::size_t>(spec.height), static_cast<std::size_t>(spec.width)};
    request.set_input_tensor(ov::Tensor(ov::element::f32, shape, tensor.data()));
    request.infer();
    const ov::Tensor scores = request.get_output_tensor(0);
    print_best(manifest, path, scores.data<const float>(), scores.data<const float>() + scores.get_size());
}

}  // namespace

int main(int count, char** arguments) {
    if (count < 3) {
        std::cerr << "usage: classify BUNDLE IMAGE.ppm...\n";
        return 2;
    }
    try {
        const std::filesystem::path bundle = arguments[1];
        const json::Value manifest = read_manifest(bundle);
        const auto& build = chosen(manifest, "openvino", "OpenVINO", {"float32", "float16", "bfloat16", "int8"});
        ov::Core core;
        ov::CompiledModel model = compiled(core, bundle, build);
        ov::InferRequest request = model.create_infer_request();
        for (int index = 2; index < count; ++index)
            (takes_pixels(build) ? classify_pixels : classify)(request, manifest, arguments[index]);
    } catch (const std::exception& error) {
        std::cerr << "classify: " << error.what() << "\n";
        return 1;
    }
    return 0;
}
