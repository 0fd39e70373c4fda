import GraphIR
import Operators
import TensorCore
import TestSupport
import Testing

@Suite struct SegmentTests {
  private let graph: Graph

  init() throws { graph = try RandomCLIP().graph(seed: 13) }

  private func cuts(_ output: String, in graph: Graph) throws -> [String] {
    let value = try #require(graph.output(named: output))
    return graph.bottlenecks(before: value).map { graph.name(of: $0) }
  }

  @Test func towersAreCutAtTheirResidualStream() throws {
    #expect(
      try cuts("image_embeds", in: graph) == [
        "image.patches", "image.patch_embedding", "image.tokens", "image.placed",
        "image.pre_norm", "image.layers.0.attended", "image.layers.0", "image.layers.1.attended",
        "image.layers.1", "image.pooled", "image.post_norm", "image.projection",
      ])
    #expect(
      try cuts("text_embeds", in: graph) == [
        "text.tokens", "text.placed", "text.layers.0.attended", "text.layers.0",
        "text.layers.1.attended", "text.layers.1", "text.final_norm", "text.pooled",
        "text.projection",
      ])
  }

  @Test func everyPathFromAnInputMeetsEveryBottleneck() throws {
    for form in [graph, try graph.selectingEarly()] {
      let output = try #require(form.output(named: "image_embeds"))
      let found = form.bottlenecks(before: output)
      for value in form.values where form.origin(of: value) != .parameter {
        guard case .node = form.origin(of: value) else { continue }
        // Without the value, does the output still depend on the pixels?
        var reached = Set(form.inputs)
        for node in form.nodes where node.inputs.contains(where: reached.contains) {
          reached.formUnion(node.outputs.filter { $0 != value })
        }
        let separates = !reached.contains(output) && value != output
        #expect(found.contains(value) == separates, "\(form.name(of: value))")
      }
    }
  }

  @Test func segmentsOneAfterTheOtherAreTheWhole() throws {
    let output = try #require(graph.output(named: "text_embeds"))
    let cuts = graph.bottlenecks(before: output)
    var nodes: [String] = []
    var start: Value?
    for cut in cuts + [output] {
      let part = try graph.segment(computing: [cut], from: start.map { [$0] } ?? [])
      #expect(part.outputs.map(\.name) == [graph.name(of: cut)])
      let inputs = part.inputs.map { part.name(of: $0) }
      if let start { #expect(inputs.contains(graph.name(of: start))) }
      let type = try #require(part.output(named: graph.name(of: cut)))
      #expect(part.tensorType(of: type) == graph.tensorType(of: cut))
      nodes += part.nodes.map(\.name)
      start = cut
    }
    let whole = graph.nodes.map(\.name).filter { $0.hasPrefix("text") }
    #expect(nodes == whole)
  }

  @Test func segmentsHoldWhatTheyNeedAlone() throws {
    let start = try #require(graph.value(named: "image.layers.0"))
    let end = try #require(graph.value(named: "image.layers.1.attended"))
    let part = try graph.segment(computing: [end], from: [start])
    #expect(part.inputs.map { part.name(of: $0) } == ["image.layers.0"])
    #expect(
      part.parameterValues.allSatisfy { part.name(of: $0).hasPrefix("image.layers.1.") })
    for value in part.parameterValues {
      #expect(part.parameter(value) == graph.parameter(named: part.name(of: value)))
    }
    // Text towers look at the ids once more to find the end of a text.
    let text = try #require(graph.value(named: "text.layers.1"))
    let pooled = try #require(graph.value(named: "text.pooled"))
    let tail = try graph.segment(computing: [pooled], from: [text])
    #expect(Set(tail.inputs.map { tail.name(of: $0) }) == ["text.layers.1", "input_ids"])
  }

  @Test func aSegmentMayBeNothingButItsBoundary() throws {
    let value = try #require(graph.value(named: "image.layers.0"))
    let part = try graph.segment(computing: [value], from: [value])
    #expect(part.nodes.isEmpty)
    #expect(part.outputs.map(\.value) == part.inputs)
  }

  @Test func wantedValuesInsideASegmentAreOutputs() throws {
    let start = try #require(graph.value(named: "image.layers.0"))
    let values = try ["image.layers.1.norm1", "image.layers.1.attention"].map {
      try #require(graph.value(named: $0))
    }
    let part = try graph.segment(computing: values, from: [start])
    #expect(part.outputs.map(\.name) == ["image.layers.1.norm1", "image.layers.1.attention"])
    #expect(part.nodes.last?.name == "image.layers.1.attention")
  }
}
