// NOT COMPILED where edgevit is built: there is no Swift toolchain there. The same steps run, and are tested bit for bit
// against Python, in ../cpp/preprocess.hpp and in edgevit/targets/browser/page/preprocess.mjs.
//
// An image to the model's input: the geometry of edgevit/preprocess/images.py, Pillow's resampling with its fixed-point
// arithmetic, float32 throughout. Core Graphics' own scaling is not a substitute: its kernels are not Pillow's.

import CoreGraphics
import Foundation

/// The manifest's `preprocess`.
struct Preprocess: Decodable {
    let input: String
    let mode: String
    let size: [Int]
    let resize: String
    let cropFraction: Double
    let interpolation: String
    let mean: [Float]
    let std: [Float]

    private enum CodingKeys: String, CodingKey {
        case input, mode, size, resize, interpolation, mean, std
        case cropFraction = "crop_fraction"
    }

    /// Float32 (channels, height, width), flat. The image is upright and opaque.
    func tensor(of image: CGImage) -> [Float] {
        let pixels = Preprocess.pixels(of: image)
        let (goalHeight, goalWidth) = resizedSize(height: image.height, width: image.width)
        let top = Int((Double(goalHeight - size[0]) / 2).rounded(.toNearestOrEven))
        let left = Int((Double(goalWidth - size[1]) / 2).rounded(.toNearestOrEven))
        var result: [Float] = []
        result.reserveCapacity(mode.count * size[0] * size[1])
        for (channel, letter) in mode.enumerated() {
            let count = image.width * image.height
            let plane = (0..<count).map { Preprocess.picked(pixels, 4 * $0, letter) }
            let small = resized(plane, image.width, image.height, goalWidth, goalHeight)
            for y in 0..<size[0] {
                for x in 0..<size[1] {
                    let byte = Float(small[(top + y) * goalWidth + left + x])
                    result.append((byte / 255 - mean[channel]) / std[channel])
                }
            }
        }
        return result
    }

    private func resizedSize(height: Int, width: Int) -> (Int, Int) {
        let goalHeight = Int((Double(size[0]) / cropFraction).rounded(.down))
        let goalWidth = Int((Double(size[1]) / cropFraction).rounded(.down))
        if resize == "exact" { return (goalHeight, goalWidth) }
        if goalHeight == goalWidth {
            let longer = Int(Double(goalHeight) * Double(max(height, width)) / Double(min(height, width)))
            return height <= width ? (goalHeight, longer) : (longer, goalHeight)
        }
        let ratio = min(Double(height) / Double(goalHeight), Double(width) / Double(goalWidth))
        return (
            Int((Double(height) / ratio).rounded(.toNearestOrEven)),
            Int((Double(width) / ratio).rounded(.toNearestOrEven))
        )
    }

    /// RGBX bytes, without a change of colour space.
    private static func pixels(of image: CGImage) -> [UInt8] {
        var bytes = [UInt8](repeating: 255, count: 4 * image.width * image.height)
        bytes.withUnsafeMutableBytes { buffer in
            let context = CGContext(
                data: buffer.baseAddress, width: image.width, height: image.height, bitsPerComponent: 8,
                bytesPerRow: 4 * image.width, space: image.colorSpace ?? CGColorSpaceCreateDeviceRGB(),
                bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue)
            context?.draw(image, in: CGRect(x: 0, y: 0, width: image.width, height: image.height))
        }
        return bytes
    }

    private static func picked(_ pixels: [UInt8], _ at: Int, _ letter: Character) -> Int {
        let (r, g, b) = (Int(pixels[at]), Int(pixels[at + 1]), Int(pixels[at + 2]))
        switch letter {
        case "R": return r
        case "G": return g
        case "B": return b
        default: return (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16
        }
    }

    private static let precisionBits = 22

    private struct Taps {
        let first: Int
        let weights: [Int]
    }

    private func resized(_ plane: [Int], _ width: Int, _ height: Int, _ goalWidth: Int, _ goalHeight: Int) -> [Int] {
        if interpolation == "nearest" {
            let rows = Preprocess.positions(height, goalHeight)
            let columns = Preprocess.positions(width, goalWidth)
            return (0..<goalWidth * goalHeight).map { plane[rows[$0 / goalWidth] * width + columns[$0 % goalWidth]] }
        }
        var result = plane
        if goalWidth != width {  // rows first, then columns, each only where the size changes
            let taps = coefficients(width, goalWidth)
            let source = result
            result = (0..<goalWidth * height).map {
                Preprocess.weighted(source, $0 / goalWidth * width, 1, taps[$0 % goalWidth])
            }
        }
        if goalHeight != height {
            let taps = coefficients(height, goalHeight)
            let source = result
            result = (0..<goalWidth * goalHeight).map {
                Preprocess.weighted(source, $0 % goalWidth, goalWidth, taps[$0 / goalWidth])
            }
        }
        return result
    }

    /// The input that each output is nearest to. Pillow adds the step up, and so rounds as a sum does, not a product.
    private static func positions(_ size: Int, _ goal: Int) -> [Int] {
        let step = Double(size) / Double(goal)
        var position = step * 0.5
        return (0..<goal).map { _ in
            defer { position += step }
            return Int(position)
        }
    }

    private static func weighted(_ values: [Int], _ start: Int, _ stride: Int, _ taps: Taps) -> Int {
        var sum = 1 << (precisionBits - 1)
        for (index, weight) in taps.weights.enumerated() {
            sum += values[start + (taps.first + index) * stride] * weight
        }
        return min(255, max(0, sum >> precisionBits))
    }

    private func coefficients(_ size: Int, _ goal: Int) -> [Taps] {
        let reach = interpolation == "bilinear" ? 1.0 : interpolation == "lanczos" ? 3.0 : 2.0
        let scale = Double(size) / Double(goal)
        let stretch = max(scale, 1)
        let support = reach * stretch
        return (0..<goal).map { index in
            let center = (Double(index) + 0.5) * scale
            let first = max(0, Int(center - support + 0.5))
            let last = min(size, Int(center + support + 0.5))
            let weights = (first..<last).map { filter((Double($0) - center + 0.5) * (1 / stretch)) }
            let total = weights.reduce(0, +)
            return Taps(first: first, weights: weights.map { weight in
                let value = (total == 0 ? weight : weight / total) * Double(1 << Preprocess.precisionBits)
                return Int(value < 0 ? value - 0.5 : value + 0.5)
            })
        }
    }

    private func filter(_ x: Double) -> Double {
        let distance = abs(x)
        switch interpolation {
        case "bilinear": return distance < 1 ? 1 - distance : 0
        case "lanczos": return x >= -3 && x < 3 ? Preprocess.sinc(x) * Preprocess.sinc(x / 3) : 0
        default:
            if distance < 1 { return (1.5 * distance - 2.5) * distance * distance + 1 }
            if distance < 2 { return (((distance - 5) * distance + 8) * distance - 4) * -0.5 }
            return 0
        }
    }

    private static func sinc(_ x: Double) -> Double { x == 0 ? 1 : sin(x * .pi) / (x * .pi) }
}
