import GraphIR
import Operators
import Passes
import TensorCore

/// Makes some channels in front of linear layers larger by a factor and the weights that read them
/// smaller by the same, which changes no answer: what trained models do to quantizers.
struct RescaleChannels: Pass {
  static let name = "rescale-channels"

  struct Options: Codable, Sendable {
    var factor: Float = 60
    /// Channels that grow at each place.
    var count = 3
  }

  let options: Options

  init(options: Options = Options()) { self.options = options }

  func run(
    on graph: consuming Graph, in context: borrowing PassContext
  ) throws(PassError) -> Graph {
    var graph = graph
    let all = Set(graph.values)
    var random = SplitMix64(seed: context.seed)
    for site in MigrationSite.sites(in: graph, all) {
      let width = graph.tensorType(of: site.activation).extents.last?.fixedCount ?? 0
      var factors = [Float](repeating: 1, count: width)
      for _ in 0..<options.count { factors[random.nextIndex(below: width)] = 1 / options.factor }
      do { try site.apply(factors, to: &graph) } catch { throw .graph(pass: Self.name, error) }
    }
    return graph
  }
}
