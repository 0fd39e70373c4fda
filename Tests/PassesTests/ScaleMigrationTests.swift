import GraphIR
import Operators
import Passes
import TensorCore
import TestSupport
import Testing

@Suite struct ScaleMigrationTests {
  private let extents = RandomCLIP()
  private let graph: Graph

  init() throws { graph = try extents.graph(seed: 51) }

  private func context() -> PassContext {
    let batches = [1, 2, 3, 4].map { Batch(inputs: extents.inputs(seed: $0, items: 4)) }
    return PassContext(seed: 5, threadCount: 2, calibration: FixedBatches(batches: batches))
  }

  @Test func sitesAreNormsAndValues() {
    let sites = MigrationSite.sites(in: graph, Set(graph.values))
    let names = sites.map { graph.name(of: $0.activation) }
    // Two norms and one attention a block, and the norm that a projection reads at once.
    #expect(names.count == 3 * (extents.imageLayers + extents.textLayers) + 1)
    #expect(names.contains("image.layers.0.norm1"))
    #expect(names.contains("text.layers.0.attention"))
    #expect(!names.contains("image.embeddings"))
    let queries = sites.first { graph.name(of: $0.activation) == "image.layers.0.norm1" }
    #expect(queries?.readers.count == 3)
  }

  @Test func movingScalesChangesNothing() throws {
    let rescaled = try RescaleChannels().run(on: graph, in: context())
    #expect(
      rescaled.parameter(named: "image.layers.0.norm1.weight")
        != graph.parameter(named: "image.layers.0.norm1.weight"))
    let inputs = extents.inputs(seed: 9, items: 3)
    let difference = largestDifference(try outputs(graph, inputs), try outputs(rescaled, inputs))
    #expect(difference < 2e-5)
  }

  @Test func rescaledChannelsCostNothing() throws {
    let rescaled = try RescaleChannels().run(on: graph, in: context())
    var options = Quantize.Options()
    options.activations = .int8
    let inputs = extents.inputs(seed: 2, items: 4)
    let exact = try outputs(graph, inputs)
    func error(_ graph: Graph, _ options: Quantize.Options) throws -> Float {
      let quantized = try Quantize(options: options).run(on: graph, in: context())
      return largestDifference(exact, try outputs(quantized, inputs))
    }
    let plain = try error(graph, options)
    #expect(try error(rescaled, options) < plain * 1.5)
    // Without moving them back they ruin the model.
    var without = options
    without.migration = nil
    #expect(try error(rescaled, without) > plain * 3)
  }

  @Test func fixedStrengthIsObeyed() throws {
    var options = Quantize.Options()
    options.activations = .int8
    options.migration = .fixed(0.5)
    let (quantized, report) = try Quantize(options: options).measured(on: graph, in: context())
    #expect(report.migrations.allSatisfy { $0.strength == 0.5 })
    #expect(report.migrations.count == MigrationSite.sites(in: graph, Set(graph.values)).count)
    let inputs = extents.inputs(seed: 2, items: 4)
    #expect(largestDifference(try outputs(graph, inputs), try outputs(quantized, inputs)) < 0.1)
    options.migration = .fixed(1.5)
    #expect(throws: PassError.self) {
      _ = try Quantize(options: options).run(on: graph, in: context())
    }
  }
}
