import GraphIR
import Operators
import Passes
import TensorCore
import TestSupport
import Testing

@Suite struct BitAllocationTests {
  private let graph: Graph
  private let pairs = randomPairs(.retrieval)
  private let weights = [
    "text.token_embedding", "image.patch_embedding.weight", "image.layers.0.attention.key.weight",
    "image.layers.1.mlp.fc2.weight", "text.layers.1.mlp.fc1.weight", "text.projection.weight",
  ]

  init() throws { graph = try RandomCLIP().graph(seed: 91) }

  private func sensitivity(_ loss: Sensitivity.Loss, limit: Int = 512) -> Sensitivity {
    var options = Sensitivity.Options()
    options.bitCounts = [2, 4, 8]
    options.loss = loss
    options.imageLimit = limit
    return Sensitivity(options: options)
  }

  private func quantizer(_ name: String, _ bits: Int) -> WeightQuantizer {
    WeightQuantizer(bitCount: bits, groupSize: bits == 4 ? 8 : nil)
  }

  /// The loss of the model with one weight in codes, from embeddings of the whole model.
  private func direct(_ name: String, _ bits: Int) throws -> (divergence: Double, distance: Double)
  {
    var changed = graph
    let value = try #require(graph.value(named: name))
    let parameter = try #require(graph.parameter(value))
    try changed.setParameter(value, try quantizer(name, bits).quantize(parameter, named: name))
    let score = try PairScorer(pairs, of: graph, threadCount: 1).score(of: changed)
    let isImage = name.hasPrefix("image")
    let output = isImage ? "image_embeds" : "text_embeds"
    var distances: [Double] = []
    let inputs =
      isImage
      ? [["pixel_values": pairs.pixels]]
      : pairs.texts.indices.map { ["input_ids": pairs.tokenIDs(of: [$0])] }
    for input in inputs {
      let rows = try [graph, changed].map { model in
        let tower = try model.extracting(outputs: [output])
        return try float64(tower, input, output)
      }
      for start in stride(from: 0, to: rows[0].count, by: 12) {
        distances.append(
          (start..<(start + 12)).reduce(1.0) { $0 - rows[0][$1] * rows[1][$1] })
      }
    }
    let scale = Double(try #require(graph.logitScale))
    return (score.divergence, scale * distances.reduce(0, +) / Double(distances.count))
  }

  @Test func lossesAreThoseOfTheWholeModel() throws {
    let divergences = try sensitivity(.divergence).table(
      of: weights, in: graph, quantizer: quantizer, context: pairContext(pairs, threadCount: 2))
    let distances = try sensitivity(.embedding).table(
      of: weights, in: graph, quantizer: quantizer, context: pairContext(pairs, threadCount: 2))
    #expect(divergences.rows.map(\.weight) == weights)
    for (left, right) in zip(divergences.rows, distances.rows) {
      var floor = (Sensitivity.smallestLoss, Sensitivity.smallestLoss)
      for place in [2, 1, 0] {
        let expected = try direct(left.weight, left.choices[place].bitCount)
        floor = (max(floor.0, expected.divergence), max(floor.1, expected.distance))
        #expect(abs(left.choices[place].loss - floor.0) < 1e-3 * floor.0 + 1e-7)
        #expect(abs(right.choices[place].loss - floor.1) < 1e-3 * floor.1 + 1e-6)
      }
      #expect(left.choices[0].loss > left.choices[2].loss)
    }
  }

  @Test func bytesAreThoseOfCodesAndScales() throws {
    let table = try sensitivity(.embedding).table(
      of: weights, in: graph, quantizer: quantizer, context: pairContext(pairs))
    // 24 rows of 40: two bits and four bytes a row; four bits and two bytes for each of five groups.
    #expect(table.rows[3].choices.map(\.byteCount) == [240 + 96, 480 + 240, 960 + 96])
    #expect(table.rows[3].elementCount == 960)
  }

  @Test func whatIsRecordedIsNotMeasuredAgain() throws {
    let records = MemoryRecords()
    records.most = 7
    #expect(throws: PassError.self) {
      try sensitivity(.both).table(
        of: weights, in: graph, quantizer: quantizer,
        context: pairContext(pairs, records: records))
    }
    #expect(records.values.count == 7)
    records.most = .max
    var reports: [Int] = []
    let table = try sensitivity(.both).table(
      of: weights, in: graph, quantizer: quantizer,
      context: pairContext(pairs, records: records) { event in
        if case .progress("sensitivities", let done, 18) = event { reports.append(done) }
      })
    #expect(reports == Array(8...18))
    records.most = 0
    let again = try sensitivity(.both).table(
      of: weights, in: graph, quantizer: quantizer, context: pairContext(pairs, records: records))
    #expect(again == table)
    // Another choice of scales is another number.
    #expect(throws: PassError.self) {
      try sensitivity(.both).table(
        of: weights, in: graph, quantizer: { WeightQuantizer(bitCount: $1, clipping: .max) },
        context: pairContext(pairs, records: records))
    }
  }

  private var table: SensitivityTable {
    func row(_ name: String, _ count: Int, _ losses: [Double]) -> SensitivityTable.Row {
      .init(
        weight: name, elementCount: count,
        choices: zip([2, 4, 8], losses).map {
          .init(bitCount: $0, byteCount: count * $0 / 8, loss: $1)
        })
    }
    return SensitivityTable(rows: [
      row("a", 800, [3, 1, 0.1]), row("b", 400, [9, 0.5, 0.2]), row("c", 1600, [1, 0.9, 0.01]),
    ])
  }

  @Test func allocationsKeepTheirLimits() throws {
    let allocation = BitAllocation(table)
    let uniform = try #require(allocation.uniform(4))
    let bytes = try #require(table.byteCount(uniform))
    #expect(bytes == 1400)
    let best = try allocation.allocate(within: .bytes(bytes))
    // 800 + 200 + 400 bytes: the cheap layer pays for the dear one.
    #expect(best == ["a": 8, "b": 4, "c": 2])
    #expect(try #require(table.loss(best)) < (try #require(table.loss(uniform))))
    // What a byte saves: 0.085 from b at 4 bits, 0.01 and 0.0023 from a at 4 and 8, 0.0015 from b at
    // 8, 0.0008 from c.
    #expect(try allocation.allocate(within: .bytes(bytes), by: .greedy) == best)
    let greedy = try allocation.allocate(within: .bytes(bytes + 300), by: .greedy)
    #expect(greedy == ["a": 8, "b": 8, "c": 2])
    let small = try allocation.allocate(within: .loss(1.8))
    #expect(try #require(table.loss(small)) <= 1.8)
    #expect(try #require(table.byteCount(small)) == bytes)
    let other = try allocation.allocate(within: .loss(1.8), by: .greedy)
    #expect(try #require(table.loss(other)) <= 1.8)
    #expect(try #require(table.byteCount(other)) >= bytes)
    let priced = BitAllocation(table) { row, _ in row.weight == "c" ? 1 : 0 }
    #expect(try priced.allocate(within: .price(1)) == ["a": 8, "b": 8, "c": 8])
    #expect(allocation.uniform(3) == nil && table.byteCount(["a": 2]) == nil)
  }

  @Test func whatCannotBeIsSaid() throws {
    let allocation = BitAllocation(table)
    let error = #expect(throws: PassError.self) {
      try allocation.allocate(within: .bytes(699))
    }
    #expect(error?.description.contains("at least 700") == true)
    #expect(throws: PassError.self) { try allocation.allocate(within: .loss(0.1)) }
    #expect(throws: PassError.self) {
      try sensitivity(.embedding).table(
        of: ["no.weight"], in: graph, quantizer: quantizer, context: pairContext(pairs))
    }
    #expect(throws: PassError.self) {
      try sensitivity(.embedding).table(
        of: weights, in: graph, quantizer: quantizer, context: PassContext())
    }
  }
}
