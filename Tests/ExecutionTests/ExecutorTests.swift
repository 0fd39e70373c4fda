import Execution
import GraphIR
import Operators
import TensorCore
import TestSupport
import Testing

@Suite struct ExecutorTests {
  func run(_ executor: Executor, _ inputs: [String: Tensor], _ name: String) throws -> [Float] {
    try #require(try executor.run(inputs)[name]).elements(of: Float.self)
  }

  @Test func fastPathsAgreeWithDefinitions() throws {
    let extents = RandomCLIP()
    let graph = try extents.graph(seed: 2)
    let fast = try Executor(graph, threadCount: 2)
    let slow = try Executor(graph, arithmetic: .definitions)
    let inputs = extents.inputs(seed: 3, items: 3)
    for name in ["image_embeds", "text_embeds"] {
      #expect(largestDifference(try run(fast, inputs, name), try run(slow, inputs, name)) < 2e-6)
    }
  }

  @Test func batchCompositionDoesNotMatter() throws {
    let extents = RandomCLIP()
    let executor = try Executor(
      try extents.graph(seed: 2), outputs: ["image_embeds"], threadCount: 2)
    let inputs = extents.inputs(seed: 4, items: 5)
    let all = try run(executor, inputs, "image_embeds")
    let pixels = try #require(inputs["pixel_values"])
    for item in 0..<5 {
      let one = try run(
        executor, ["pixel_values": pixels.selecting([item], onAxis: 0)], "image_embeds")
      let row = Array(all[(item * extents.projection)..<((item + 1) * extents.projection)])
      #expect(largestDifference(one, row) < 1e-6)
    }
  }

  @Test func tokensAfterTheEndDoNotMatter() throws {
    let extents = RandomCLIP()
    let executor = try Executor(try extents.graph(seed: 5), outputs: ["text_embeds"])
    let end = Int32(extents.vocabulary - 1)
    let short = try run(
      executor, ["input_ids": Tensor(shape: [1, 4], [1, 5, 6, end] as [Int32])], "text_embeds")
    let long = try run(
      executor, ["input_ids": Tensor(shape: [1, 7], [1, 5, 6, end, 9, 2, 0] as [Int32])],
      "text_embeds")
    #expect(largestDifference(short, long) < 1e-6)
  }

  @Test func valuesInBetweenCanBeAskedForAndObserved() throws {
    let extents = RandomCLIP()
    let graph = try extents.graph(seed: 6)
    let executor = try Executor(graph, outputs: ["image.layers.0"])
    let layer = try #require(executor.graph.value(named: "image.layers.0"))
    var seen: [Float] = []
    let inputs = extents.inputs(seed: 7)
    let result = try executor.run(inputs, observing: [layer]) { value, elements in
      #expect(value == layer)
      seen = Array(elements)
    }
    #expect(result["image.layers.0"]?.elements(of: Float.self) == seen)
    #expect(executor.arenaByteCount > 0)
  }

  @Test func wrongInputsAreErrors() throws {
    let extents = RandomCLIP()
    let executor = try Executor(try extents.graph(seed: 8))
    #expect(throws: ExecutionError.self) { try executor.run([:]) }
    var inputs = extents.inputs(seed: 9)
    inputs["pixel_values"] = Tensor(shape: [1, 3, 4, 4], [Float](repeating: 0, count: 48))
    #expect(throws: ExecutionError.self) { try executor.run(inputs) }
    let long = extents.inputs(seed: 9, tokens: extents.context + 1)
    #expect(throws: ExecutionError.self) { try executor.run(long) }
  }
}
