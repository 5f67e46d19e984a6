// NOT COMPILED where edgevit is built: there is no Swift toolchain there.
//
// Runs the ort-mobile build of a bundle with the Swift package https://github.com/microsoft/onnxruntime-swift-package-manager
// (product "onnxruntime"). Add manifest.json and the build's folder to the app as one folder reference, "bundle".

import CoreGraphics
import Foundation
import OnnxRuntimeBindings

struct Label {
    let name: String
    let score: Float
}

enum ClassifierError: Error {
    /// What was expected and what the bundle holds instead.
    case bundle(String)
}

final class Classifier {
    private struct Manifest: Decodable {
        struct Build: Decodable {
            let target: String
            let precision: String
            let verdict: String?
            let options: [String: String]?
        }
        struct Tensor: Decodable { let name: String }
        struct Signature: Decodable { let outputs: [Tensor] }

        let schema: Int
        let task: String
        let preprocess: Preprocess
        let labels: [String]
        let signature: Signature
        let builds: [Build]
    }

    private let manifest: Manifest
    private let environment: ORTEnv
    private let session: ORTSession

    init(bundle: URL, precision: String = "int8") throws {
        manifest = try JSONDecoder().decode(
            Manifest.self, from: Data(contentsOf: bundle.appendingPathComponent("manifest.json")))
        guard manifest.schema == 1, manifest.task == "image-classification" else {
            throw ClassifierError.bundle("expected a bundle of schema 1 that classifies images")
        }
        let build = manifest.builds.first { $0.target == "ort-mobile" && $0.precision == precision }
        guard let build, build.verdict != "failed" else {
            throw ClassifierError.bundle("expected a build ort-mobile:\(precision) within its parity budget, found none")
        }
        guard build.options?["input"] != "pixels" else {
            throw ClassifierError.bundle("expected ort-mobile:\(precision) without its own preprocessing, found input=pixels")
        }
        environment = try ORTEnv(loggingLevel: .warning)
        let model = bundle.appendingPathComponent("ort-mobile-\(precision)/model.ort")
        session = try ORTSession(env: environment, modelPath: model.path, sessionOptions: nil)
    }

    /// The `top` best labels with their softmax scores, best first. The image is upright and opaque.
    func classify(_ image: CGImage, top: Int = 5) throws -> [Label] {
        var values = manifest.preprocess.tensor(of: image)
        let data = NSMutableData(bytes: &values, length: values.count * MemoryLayout<Float>.stride)
        let shape = [1, manifest.preprocess.mode.count] + manifest.preprocess.size
        let input = try ORTValue(tensorData: data, elementType: .float, shape: shape.map { NSNumber(value: $0) })
        let output = manifest.signature.outputs[0].name
        let outputs = try session.run(
            withInputs: [manifest.preprocess.input: input], outputNames: [output], runOptions: nil)
        guard let found = try outputs[output]?.tensorData() as Data? else { return [] }
        let scores = found.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
        let largest = scores.max() ?? 0
        let weights = scores.map { exp($0 - largest) }
        let total = weights.reduce(0, +)
        return weights.enumerated().sorted { $0.element > $1.element }.prefix(top).map { index, weight in
            Label(name: index < manifest.labels.count ? manifest.labels[index] : String(index), score: weight / total)
        }
    }
}
