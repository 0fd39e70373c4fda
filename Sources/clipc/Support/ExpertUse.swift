import ArgumentParser
import Charts
import Datasets
import GraphIR
import Operators
import Passes
import TensorCore

/// On what the use of experts is counted.
struct ExpertUseOptions: ParsableArguments {
  @Option(help: "Count how experts are used on these images and their captions or classes.")
  var data: String?
  @Option(help: "With --data: a picture of the routing of each class (.svg).")
  var routing: String?
  @Option(help: "With --data: class names in order, a line each.") var classes: String?
  @Option(help: "With --data: prompts for class names, a line each.") var templates: String?

  func validate() throws {
    guard data != nil || (routing == nil && classes == nil && templates == nil) else {
      throw ValidationError("--routing, --classes and --templates go with --data")
    }
  }

  /// What `opened` makes of the data; nil where none are named.
  func counted(_ opened: OpenedModel, _ common: CommonOptions) throws -> ExpertUse? {
    guard let data else { return nil }
    let dataset = try Dataset.open(path: data, classesFile: classes)
    dataset.warnings.forEach(Terminal.warn)
    let prompts = try templates.map { try Prompts(file: $0) } ?? .standard
    let use = try ExpertUse(opened, dataset, prompts, threadCount: common.threads)
    if let routing { try write(use.routing.svg, to: routing) }
    return use
  }
}

/// How often each expert of a model is taken, by class where the data have classes.
struct ExpertUse {
  /// The most classes that a picture shows.
  private static let mostClasses = 100
  /// The most images of a class that are looked at.
  private static let mostImages = 256

  /// The layers, with what all data came to.
  private let layers: [ExpertCounter.Layer]
  /// The share of each expert by class, layer and expert, for as many classes as are shown.
  private let shares: [(name: String, layers: [[Double]])]

  /// Counts what `opened` makes of `dataset`.
  init(
    _ opened: OpenedModel, _ dataset: Dataset, _ prompts: Prompts, threadCount: Int
  ) throws {
    let graph = try opened.graphModel(for: "inspect --data").graph
    let counter = try ExpertCounter(graph, threadCount: threadCount)
    guard !counter.layers.isEmpty else {
      throw Failure(
        .malformedInput, "\(opened.path): no layer has experts whose use could be counted")
    }
    let inputs = try ModelInputs(opened, threadCount: threadCount)
    var layers = counter.layers
    var shares: [(name: String, layers: [[Double]])] = []
    let names = dataset.classNames
    let progress = Progress("routing", total: max(names.count, 1))
    for index in 0..<max(names.count, 1) {
      counter.clear()
      var taken = 0
      let part =
        try names.isEmpty
        ? dataset
        : dataset.filtered { sample in
          guard sample.classIndex == index, taken < Self.mostImages else { return false }
          taken += 1
          return true
        }
      var texts = names.isEmpty ? [] : prompts.prompts(for: names[index])
      try Self.addImages(of: part, opened, inputs, counter, &texts, threadCount)
      if counter.layers.contains(where: { $0.tower == .text }) {
        try Self.add(texts: texts, inputs, counter)
      }
      for layer in layers.indices {
        for (expert, count) in counter.layers[layer].counts.enumerated() {
          layers[layer].counts[expert] += count
        }
      }
      if index < Self.mostClasses {
        shares.append((names.isEmpty ? "all" : names[index], counter.layers.map(\.shares)))
      }
      progress.update(index + 1)
    }
    progress.finish()
    self.layers = layers
    self.shares = shares
  }

  private static func addImages(
    of dataset: Dataset, _ opened: OpenedModel, _ inputs: ModelInputs, _ counter: ExpertCounter,
    _ captions: inout [String], _ threadCount: Int
  ) throws {
    guard let extents = inputs.encoder.imageExtents else { return }
    var pixels: [Float] = []
    var count = 0
    func flush() throws {
      guard count > 0 else { return }
      try counter.add(["pixel_values": Tensor(shape: [count] + extents, pixels)])
      pixels.removeAll(keepingCapacity: true)
      count = 0
    }
    try ImagePipeline.forEachDecoded(
      dataset, threads: threadCount, transform: try inputs.pixelFunction()
    ) { sample, result in
      guard case .success(let values) = result else { return }
      if let caption = sample.caption, captions.count < 4096 { captions.append(caption) }
      pixels += values
      count += 1
      if count == ModelInputs.batch { try flush() }
    }
    try flush()
  }

  private static func add(
    texts: [String], _ inputs: ModelInputs, _ counter: ExpertCounter
  ) throws {
    let ids = try inputs.tokenIDs(texts)
    for start in stride(from: 0, to: ids.count, by: 64) {
      let batch = ids[start..<min(start + 64, ids.count)]
      let length = batch.map(\.count).max() ?? 1
      let padded = batch.flatMap { $0 + [Int32](repeating: 0, count: length - $0.count) }
      try counter.add(["input_ids": Tensor(shape: [batch.count, length], padded)])
    }
  }

  /// What a layer's object has beside its name.
  func members(of layer: String) -> [(String, JSON)] {
    guard let found = layers.first(where: { $0.name == layer }) else { return [] }
    return [
      ("load", .array(found.shares.map { .number($0) })),
      ("imbalance", .number(found.imbalance)),
    ]
  }

  /// A line for each layer.
  var text: String {
    let rows = layers.map { layer in
      [
        layer.name, layer.shares.map { "\(Int(($0 * 100).rounded())) %" }.joined(separator: " "),
        "\((layer.imbalance * 100).rounded() / 100)",
      ]
    }
    return table([["experts' use", "share of each", "largest over mean"]] + rows)
  }

  /// The share of each expert, a row for each class.
  var routing: HeatMap {
    HeatMap(
      title: "Experts by class",
      sections: layers.indices.map { layer in
        HeatMap.Section(
          name: layers[layer].name,
          rows: shares.map { HeatMap.Row(name: $0.name, values: $0.layers[layer]) })
      })
  }
}
