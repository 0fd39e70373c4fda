import GraphIR
import Operators
import Passes
import TensorCore
import TestSupport
import Testing

@Suite struct InheritErrorTests {
  private let teacher: Graph

  init() throws { teacher = try InheritSupport.teacher.graph(seed: 1) }

  /// What the pass says of `options`; nil where it takes them.
  private func complaint(
    _ graph: Graph? = nil, _ change: (inout InheritManual.Options) -> Void = { _ in }
  ) -> String? {
    var options = InheritManual.Options()
    change(&options)
    do {
      _ = try InheritManual(options: options).run(on: graph ?? teacher, in: PassContext())
      return nil
    } catch {
      return "\(error)"
    }
  }

  @Test(arguments: [-1, 0, 0.0499, 1.001, .nan, .infinity])
  func sharesOutOfRange(_ keep: Double) {
    #expect(complaint { $0.keep = keep } == "keep must be from 0.05 to 1, found \(keep)")
  }

  @Test func dimensionsOutOfRange() {
    #expect(
      complaint { $0.image.layers = 5 }
        == "image.layers must be from 1 to 4, as the teacher has, found 5")
    #expect(complaint { $0.text.heads = 0 }?.hasPrefix("text.heads must be from 1 to 4") == true)
    #expect(complaint { $0.text.neurons = 129 }?.hasPrefix("text.neurons must be") == true)
    #expect(complaint { $0.image.width = -3 }?.hasPrefix("image.width must be") == true)
    #expect(complaint { $0.image.width = 48 } == nil)
  }

  @Test func contradictions() {
    let both = complaint {
      $0.keep = 0.5
      $0.text.width = 8
    }
    #expect(both == "text.width must be left out, since keep chooses the dimensions, found 8")
    let other = complaint {
      $0.tower = .image
      $0.text.layers = 1
    }
    #expect(other == "text.layers must be left out, since only the image tower changes, found 1")
  }

  @Test func quantizedTeachers() throws {
    let name = "image.layers.0.mlp.fc1.weight"
    let value = try #require(teacher.value(named: name))
    var codes = teacher
    try codes.setParameter(
      value,
      try WeightQuantizer().quantize(try #require(teacher.parameter(value)), named: name))
    #expect(complaint(codes)?.contains("distil the float32 model first, quantize then") == true)
  }

  @Test func sharesThatNothingMeets() throws {
    // Nearly all parameters are in the projection, which has no dimension but the width.
    var extents = RandomCLIP()
    (extents.imageWidth, extents.imageHeads, extents.imageNeurons) = (2, 1, 2)
    (extents.projection, extents.imageLayers) = (4000, 1)
    let found = complaint(try extents.graph(seed: 1)) { $0.keep = 0.3 }
    #expect(found?.hasPrefix("keep must be at least 0.5") == true)
    let other = complaint(try extents.graph(seed: 1)) { $0.keep = 0.7 }
    #expect(other?.contains("no dimensions of the image tower") == true)
  }

  @Test func modelsWithoutBlocks() throws {
    let image = try teacher.extracting(outputs: ["image_embeds"])
    #expect(complaint(image) == "inherit-manual: the model has no text tower")
    #expect(complaint(image) { $0.tower = .image } == nil)
    // The same graph under other names.
    let renamed = try renamed(teacher) { $0.replacing("text.layers.", with: "text.blocks.") }
    #expect(complaint(renamed)?.contains("no value is named text.layers.0") == true)
    let gap = try self.renamed(teacher) { $0.replacing("layers.1", with: "layers.9") }
    #expect(complaint(gap)?.contains("block image.layers.1 is missing") == true)
    let swapped = try self.renamed(teacher) { name in
      let parts = name.split(separator: ".", omittingEmptySubsequences: false)
      guard name.hasPrefix("image.layers."), let layer = Int(parts[2]), layer < 2 else {
        return name
      }
      return (["image", "layers", "\(1 - layer)"] + parts[3...]).joined(separator: ".")
    }
    #expect(complaint(swapped)?.contains("something else than the block before") == true)
  }

  @Test(arguments: ["-1", "00", "9223372036854775807", "one", ""])
  func whatIsNotANumberIsNoBlock(_ place: String) throws {
    var graph = teacher
    let name = "image.layers.\(place).extra"
    _ = try graph.addParameter(name, Parameter(Tensor(scalar: 1)))
    var options = InheritManual.Options()
    options.image.layers = 1
    let student = try InheritManual(options: options).run(on: graph, in: PassContext())
    #expect(student.parameter(named: name) != nil)
  }

  @Test func blocksWithASecondExit() throws {
    var graph = teacher
    let hidden = try #require(graph.value(named: "image.layers.2.mlp.activation"))
    let exit = try graph.add("exit", GELU(), hidden)
    try graph.addOutput("exit", exit)
    #expect(complaint(graph)?.contains("block image.layers.2 shares") == true)
    var direct = teacher
    try direct.addOutput("inside", hidden)
    #expect(complaint(direct)?.contains("block image.layers.2 makes the output inside") == true)
  }

  private func renamed(_ graph: Graph, _ rename: (String) -> String) throws -> Graph {
    var result = Graph()
    var images: [Value: Value] = [:]
    for value in graph.values {
      let name = rename(graph.name(of: value))
      switch graph.origin(of: value) {
      case .input: images[value] = try result.addInput(name, graph.tensorType(of: value))
      case .parameter:
        images[value] = try result.addParameter(name, try #require(graph.parameter(value)))
      case .node(let index):
        let node = graph.nodes[index]
        images[value] = try result.addNode(name, node.op, node.inputs.compactMap { images[$0] })[0]
      }
    }
    for output in graph.outputs {
      try result.addOutput(output.name, try #require(images[output.value]))
    }
    return result
  }
}
