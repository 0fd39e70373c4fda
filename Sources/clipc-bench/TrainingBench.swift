import ArgumentParser
import Checkpoints
import Execution
import GraphIR
import Operators
import TensorCore
import Training

/// Times steps of distillation on random data: a teacher's pass, a student's pass and gradients,
/// and the update.
@main
struct TrainingBench: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "clipc-bench",
    abstract: "Time distillation steps: 32 x 32 images, 12 tokens, a student of half the depth.")

  @Option(help: "How many threads run.")
  var threads = 2
  @Option(help: "Pairs in a batch.")
  var batch = 256
  @Option(help: "Timed steps, after two that are not.")
  var steps = 10
  @Flag(help: "Replay stored teacher embeddings instead of running the teacher.")
  var stored = false
  @Option(help: "Parts in which a batch is run.")
  var microBatches = 1
  @Flag(help: "Compute activations anew for the backward half.")
  var recompute = false
  @Flag(help: "Round what linear layers multiply to bfloat16.")
  var bfloat16 = false

  func run() throws {
    let teacher = try Self.model(imageLayers: 6, textLayers: 3, seed: 1)
    let student = try Self.model(imageLayers: 3, textLayers: 2, seed: 2)
    var objective = Objective(
      losses: .affinity, teacher: stored ? .stored(width: 128) : .graph(teacher))
    objective.affinityScale = 50
    var options = UpdateOptions()
    options.schedule = LearningRateSchedule(.constant, peak: 1e-3)
    let trainer = try Trainer(
      WeightForm(student), objective, options: options, totalSteps: steps + 2,
      microBatchCount: microBatches, recomputes: recompute, seed: 0, threadCount: threads,
      arithmetic: bfloat16 ? .mixed : .fast)
    var random = SplitMix64(seed: 3)
    var times: [Double] = []
    for step in 0..<(steps + 2) {
      let inputs = inputs(&random)
      let start = ContinuousClock.now
      _ = try trainer.step(inputs)
      let time = (ContinuousClock.now - start) / .milliseconds(1)
      if step >= 2 { times.append(time) }
    }
    times.sort()
    let median = times[times.count / 2]
    print(
      "median \(median) ms a step, least \(times[0]) ms, "
        + "\(Double(batch) / median * 1000) images a second, "
        + "arena \(trainer.arenaByteCount >> 20) MiB, peak \(ProcessMemory.peakByteCount >> 20) MiB"
    )
  }

  private func inputs(_ random: inout SplitMix64) -> [String: Tensor] {
    func normals(_ shape: [Int]) -> Tensor {
      Tensor(
        shape: shape, (0..<shape.reduce(1, *)).map { _ in Float(random.nextUniform() * 4 - 2) })
    }
    var ids = (0..<(batch * 12)).map { _ in Int32(1 + random.nextIndex(below: 40_000)) }
    for row in 0..<batch {
      ids[row * 12] = 49_406
      ids[row * 12 + 11] = 49_407
    }
    var inputs = [
      "pixel_values": normals([batch, 3, 32, 32]), "input_ids": Tensor(shape: [batch, 12], ids),
    ]
    if stored {
      inputs["teacher.image_embeds"] = normals([batch, 128])
      inputs["teacher.text_embeds"] = normals([batch, 128])
    }
    return inputs
  }

  private static func model(imageLayers: Int, textLayers: Int, seed: UInt64) throws -> Graph {
    func tower(_ width: Int, _ layers: Int, _ heads: Int) -> CLIPTower {
      CLIPTower(
        width: width, layerCount: layers, headCount: heads, mlpWidth: 4 * width,
        activation: .quickGELU, blockEpsilon: 1e-5, finalEpsilon: 1e-5)
    }
    let architecture = CLIPArchitecture(
      image: tower(160, imageLayers, 5), text: tower(128, textLayers, 4), imageHeight: 32,
      imageWidth: 32, patchSize: 4, imagePreEpsilon: 1e-5, contextLength: 77,
      vocabularySize: 49_408, endTokenRule: .largest, projectionWidth: 128)
    var random = SplitMix64(seed: seed)
    var tensors: [String: Tensor] = [:]
    for (name, shape) in architecture.tensorShapes {
      let isNorm = name.contains("norm") && name.hasSuffix("weight")
      tensors[name] = Tensor(
        shape: shape,
        (0..<shape.reduce(1, *)).map { _ in
          isNorm ? 1 : Float((random.nextUniform() - 0.5) * 0.1)
        })
    }
    return try CLIPGraphBuilder.graph(architecture, tensors)
  }
}
