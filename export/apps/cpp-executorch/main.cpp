// Classifies images with an ExecuTorch build of a bundle: reads the manifest for everything it needs to know.
//
//   classify BUNDLE IMAGE.ppm...      prints: path <tab> label <tab> softmax score
//
// Images are binary PPM or PGM (P6, P5), what `convert photo.jpg photo.ppm` or a camera's driver gives; an application
// hands its own uint8 frames to `image_tensor` instead.

#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>

#include <iostream>

#include "bundle.hpp"

namespace {

using executorch::extension::Module;

[[noreturn]] void refuse(const std::string& what, executorch::runtime::Error error) {
    throw std::runtime_error("ExecuTorch could not " + what + " (its error " +
                             std::to_string(static_cast<unsigned>(error)) +
                             "); a program of another version is exported again");
}

void classify(Module& module, const json::Value& manifest, const std::string& path) {
    const Preprocess spec = Preprocess::from(manifest["preprocess"]);
    std::vector<float> tensor = image_tensor(read_pnm(path), spec);
    const std::vector<executorch::aten::SizesType> shape{1, static_cast<int>(spec.mode.size()), spec.height, spec.width};
    const auto input = executorch::extension::from_blob(tensor.data(), shape);
    const auto outputs = module.forward(input);
    if (!outputs.ok()) refuse("run it on " + path, outputs.error());
    const auto scores = outputs.get().at(0).toTensor();
    if (scores.scalar_type() != executorch::aten::ScalarType::Float)
        throw std::runtime_error("expected scores in float32, found another type; export the bundle again");
    print_best(manifest, path, scores.const_data_ptr<float>(), scores.const_data_ptr<float>() + scores.numel());
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
        const auto& build = chosen(manifest, "executorch", "ExecuTorch", {"float32", "int8", "int8d"});
        const auto name = build["target"].text + "-" + build["precision"].text;
        // A program is read once and stays: a mapped file would be paged in while the first image waits.
        Module module((bundle / name / "model.pte").string(), Module::LoadMode::File);
        const auto loaded = module.load_method("forward");
        if (loaded != executorch::runtime::Error::Ok) refuse("load " + name, loaded);
        for (int index = 2; index < count; ++index) classify(module, manifest, arguments[index]);
    } catch (const std::exception& error) {
        std::cerr << "classify: " << error.what() << "\n";
        return 1;
    }
    return 0;
}
