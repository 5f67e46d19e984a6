// NOT COMPILED where edgevit is built: there is no Android toolchain there. The same steps run, and are tested bit for
// bit against Python, in ../cpp/preprocess.hpp and in edgevit/targets/browser/page/preprocess.mjs.
//
// A bitmap to the model's input: the geometry of edgevit/preprocess/images.py, Pillow's resampling with its fixed-point
// arithmetic, float32 throughout. Bitmap.createScaledBitmap is not a substitute: it does not average when it shrinks.

package edgevit

import android.graphics.Bitmap
import kotlin.math.PI
import kotlin.math.abs
import kotlin.math.floor
import kotlin.math.max
import kotlin.math.min
import kotlin.math.rint
import kotlin.math.sin
import org.json.JSONArray
import org.json.JSONObject

/** The manifest's `preprocess`. */
class Preprocess(spec: JSONObject) {
    val input: String = spec.getString("input")
    val mode: String = spec.getString("mode")
    val height: Int = spec.getJSONArray("size").getInt(0)
    val width: Int = spec.getJSONArray("size").getInt(1)
    private val exact = spec.getString("resize") == "exact"
    private val cropFraction = spec.getDouble("crop_fraction")
    private val interpolation = spec.getString("interpolation")
    private val mean = floats(spec.getJSONArray("mean"))
    private val std = floats(spec.getJSONArray("std"))

    /** Float32 (channels, height, width), flat. The bitmap is upright, ARGB_8888 and opaque. */
    fun tensor(bitmap: Bitmap): FloatArray {
        val pixels = IntArray(bitmap.width * bitmap.height)
        bitmap.getPixels(pixels, 0, bitmap.width, 0, 0, bitmap.width, bitmap.height)
        val (goalHeight, goalWidth) = resizedSize(bitmap.height, bitmap.width)
        val top = rint((goalHeight - height) / 2.0).toInt()
        val left = rint((goalWidth - width) / 2.0).toInt()
        val result = FloatArray(mode.length * height * width)
        var index = 0
        for ((channel, letter) in mode.withIndex()) {
            val plane = IntArray(pixels.size) { picked(pixels[it], letter) }
            val small = resized(plane, bitmap.width, bitmap.height, goalWidth, goalHeight)
            for (y in 0 until height) for (x in 0 until width) {
                val byte = small[(top + y) * goalWidth + left + x].toFloat()
                result[index++] = (byte / 255f - mean[channel]) / std[channel]
            }
        }
        return result
    }

    private fun resizedSize(sourceHeight: Int, sourceWidth: Int): Pair<Int, Int> {
        val goalHeight = floor(height / cropFraction).toInt()
        val goalWidth = floor(width / cropFraction).toInt()
        if (exact) return goalHeight to goalWidth
        if (goalHeight == goalWidth) {
            val longer = (goalHeight.toDouble() * max(sourceHeight, sourceWidth) / min(sourceHeight, sourceWidth)).toInt()
            return if (sourceHeight <= sourceWidth) goalHeight to longer else longer to goalHeight
        }
        val ratio = min(sourceHeight.toDouble() / goalHeight, sourceWidth.toDouble() / goalWidth)
        return rint(sourceHeight / ratio).toInt() to rint(sourceWidth / ratio).toInt()
    }

    private fun picked(pixel: Int, letter: Char): Int {
        val r = pixel shr 16 and 255
        val g = pixel shr 8 and 255
        val b = pixel and 255
        return when (letter) {
            'R' -> r
            'G' -> g
            'B' -> b
            else -> r * 19595 + g * 38470 + b * 7471 + 0x8000 shr 16
        }
    }

    private class Taps(val first: Int, val weights: LongArray)

    private fun resized(plane: IntArray, width: Int, height: Int, goalWidth: Int, goalHeight: Int): IntArray {
        if (interpolation == "nearest") {
            val rows = positions(height, goalHeight)
            val columns = positions(width, goalWidth)
            return IntArray(goalWidth * goalHeight) { plane[rows[it / goalWidth] * width + columns[it % goalWidth]] }
        }
        var result = plane
        if (goalWidth != width) { // rows first, then columns, each only where the size changes
            val taps = coefficients(width, goalWidth)
            val source = result
            result = IntArray(goalWidth * height) { weighted(source, it / goalWidth * width, 1, taps[it % goalWidth]) }
        }
        if (goalHeight != height) {
            val taps = coefficients(height, goalHeight)
            val source = result
            result = IntArray(goalWidth * goalHeight) { weighted(source, it % goalWidth, goalWidth, taps[it / goalWidth]) }
        }
        return result
    }

    /** The input that each output is nearest to. Pillow adds the step up, and so rounds as a sum does, not a product. */
    private fun positions(size: Int, goal: Int): IntArray {
        val step = size.toDouble() / goal
        var position = step * 0.5
        return IntArray(goal) { position.toInt().also { position += step } }
    }

    private fun weighted(values: IntArray, start: Int, stride: Int, taps: Taps): Int {
        var sum = 1L shl PRECISION_BITS - 1
        for (i in taps.weights.indices) sum += values[start + (taps.first + i) * stride] * taps.weights[i]
        return (sum shr PRECISION_BITS).coerceIn(0, 255).toInt()
    }

    private fun coefficients(size: Int, goal: Int): List<Taps> {
        val reach = when (interpolation) { "bilinear" -> 1.0; "lanczos" -> 3.0; else -> 2.0 }
        val scale = size.toDouble() / goal
        val stretch = max(scale, 1.0)
        val support = reach * stretch
        return List(goal) { index ->
            val center = (index + 0.5) * scale
            val first = max(0, (center - support + 0.5).toInt())
            val last = min(size, (center + support + 0.5).toInt())
            val weights = DoubleArray(last - first) { filter((it + first - center + 0.5) * (1 / stretch)) }
            val total = weights.sum()
            Taps(first, LongArray(weights.size) {
                val value = (if (total == 0.0) weights[it] else weights[it] / total) * (1 shl PRECISION_BITS)
                (if (value < 0) value - 0.5 else value + 0.5).toLong()
            })
        }
    }

    private fun filter(x: Double): Double {
        val distance = abs(x)
        return when (interpolation) {
            "bilinear" -> if (distance < 1) 1 - distance else 0.0
            "lanczos" -> if (x >= -3 && x < 3) sinc(x) * sinc(x / 3) else 0.0
            else -> when {
                distance < 1 -> (1.5 * distance - 2.5) * distance * distance + 1
                distance < 2 -> (((distance - 5) * distance + 8) * distance - 4) * -0.5
                else -> 0.0
            }
        }
    }

    private fun sinc(x: Double) = if (x == 0.0) 1.0 else sin(x * PI) / (x * PI)

    private fun floats(values: JSONArray) = FloatArray(values.length()) { values.getDouble(it).toFloat() }

    private companion object {
        const val PRECISION_BITS = 22
    }
}
