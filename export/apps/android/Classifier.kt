// NOT COMPILED where edgevit is built: there is no Android toolchain there.
//
// Runs the ort-mobile build of a bundle. In build.gradle.kts:
//
//     implementation("com.microsoft.onnxruntime:onnxruntime-android:1.22.0")
//
// or a minimal build of it made with the bundle's required_operators_and_types.config. Put manifest.json and the build's
// folder into app/src/main/assets/bundle.

package edgevit

import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtSession
import android.content.res.AssetManager
import android.graphics.Bitmap
import java.io.Closeable
import java.nio.FloatBuffer
import kotlin.math.exp
import org.json.JSONObject

data class Label(val name: String, val score: Float)

/** Thread-safe: ONNX Runtime serves several callers of one session. */
class Classifier(assets: AssetManager, folder: String = "bundle", precision: String = "int8") : Closeable {
    private val manifest = JSONObject(assets.open("$folder/manifest.json").bufferedReader().use { it.readText() })
    private val preprocess = Preprocess(manifest.getJSONObject("preprocess"))
    private val labels = manifest.getJSONArray("labels").let { array -> List(array.length()) { array.getString(it) } }
    private val environment = OrtEnvironment.getEnvironment()
    private val session: OrtSession

    init {
        require(manifest.getInt("schema") == 1) { "expected schema 1 of the manifest, found ${manifest.getInt("schema")}" }
        require(manifest.getString("task") == "image-classification") { "expected a bundle that classifies images" }
        val builds = manifest.getJSONArray("builds").let { array -> List(array.length()) { array.getJSONObject(it) } }
        val build = builds.firstOrNull {
            it.getString("target") == "ort-mobile" && it.getString("precision") == precision
        }
        requireNotNull(build) { "expected a build ort-mobile:$precision in this bundle, found none" }
        val input = build.getJSONObject("options").optString("input")
        require(input != "pixels") { "expected ort-mobile:$precision without its own preprocessing, found input=pixels" }
        require(build.getString("verdict") != "failed") { "ort-mobile:$precision is out of its parity budget" }
        val model = assets.open("$folder/ort-mobile-$precision/model.ort").use { it.readBytes() }
        session = environment.createSession(model, OrtSession.SessionOptions())
    }

    /** The `top` best labels with their softmax scores, best first. The bitmap is upright and opaque. */
    fun classify(bitmap: Bitmap, top: Int = 5): List<Label> {
        val shape = longArrayOf(1, preprocess.mode.length.toLong(), preprocess.height.toLong(), preprocess.width.toLong())
        OnnxTensor.createTensor(environment, FloatBuffer.wrap(preprocess.tensor(bitmap)), shape).use { input ->
            session.run(mapOf(preprocess.input to input)).use { outputs ->
                @Suppress("UNCHECKED_CAST")
                val scores = (outputs[0].value as Array<FloatArray>)[0]
                val largest = scores.max()
                val weights = scores.map { exp(it - largest) }
                val total = weights.sum()
                return weights.withIndex()
                    .sortedByDescending { it.value }
                    .take(top)
                    .map { Label(labels.getOrElse(it.index) { index -> index.toString() }, it.value / total) }
            }
        }
    }

    override fun close() = session.close()
}
