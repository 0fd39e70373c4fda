import CHDF5
import Checkpoints
import Foundation
import Glibc
import GraphIR
import Operators
import TensorCore
import TestSupport
import Testing

/// A model with everything that a model file can hold.
func fullModel() throws -> CLIPModel {
  let small = SmallCheckpoint()
  var graph = try CLIPGraphBuilder.graph(small.architecture, small.tensors)
  var random = SplitMix64(seed: 11)
  for value in graph.parameterValues {
    guard var parameter = graph.parameter(value), parameter.tensor.shape.count == 2 else {
      continue
    }
    let shape = parameter.tensor.shape
    let count = shape[0] * shape[1]
    if random.nextIndex(below: 2) == 0 {
      let codes = (0..<count).map { _ in Int8(random.nextIndex(below: 255) - 127) }
      let scales = (0..<shape[0]).map { _ in Float(random.nextUniform() + 0.01) }
      parameter.tensor = Tensor(shape: shape, codes)
      parameter.quantization = WeightQuantization(
        bitCount: 8, scales: Tensor(shape: [shape[0]], scales))
    }
    if random.nextIndex(below: 2) == 0 {
      let mask = (0..<count).map { _ in UInt8(random.nextIndex(below: 2)) }
      parameter.mask = Tensor(shape: shape, mask)
    }
    try graph.setParameter(value, parameter)
  }
  graph.facts = [
    Fact(name: "image.activation", value: "quick_gelu", source: "config.json: \"hidden_act\"\n")
  ]
  graph.provenance = [
    ProvenanceStep(
      pass: "prune-magnitude", options: ["sparsity": "0.5", "a\\b": "ü\u{1}"], seed: .max,
      inputSHA256: "ab")
  ]
  return CLIPModel(graph: graph, tokenizer: [1, 2, 3], imageTransform: [4, 5])
}

/// Whether two models agree in every bit.
func expectSame(_ left: CLIPModel, _ right: CLIPModel) {
  #expect(left.graph.text() == right.graph.text())
  #expect(left.graph.facts == right.graph.facts)
  #expect(left.graph.provenance == right.graph.provenance)
  #expect(left.tokenizer == right.tokenizer)
  #expect(left.imageTransform == right.imageTransform)
  for value in left.graph.parameterValues {
    let name = left.graph.name(of: value)
    #expect(left.graph.parameter(value) == right.graph.parameter(named: name), "\(name)")
  }
}

@Suite struct ModelFileTests {
  @Test func roundTripKeepsEveryBit() throws {
    let folder = try TemporaryFolder()
    let model = try fullModel()
    try ModelFile.write(model, to: folder.file("a.h5"))
    let read = try CheckpointReader.read(folder.file("a.h5"))
    #expect(read.kind == .clipcModel)
    expectSame(model, read.model)
    try ModelFile.write(read.model, to: folder.file("b.h5"))
    #expect(try contents(folder.file("a.h5")) == contents(folder.file("b.h5")))
    #expect(try folder.names() == ["a.h5", "b.h5"])
  }

  @Test func modelsWithoutATokenizerAreWhole() throws {
    let folder = try TemporaryFolder()
    var model = try fullModel()
    model.tokenizer = nil
    try ModelFile.write(model, to: folder.file("a.h5"))
    #expect(try ModelFile.read(folder.file("a.h5")).tokenizer == nil)
  }

  /// What a reader says of a model file after `change` by other means.
  private func refusal(_ change: (hid_t) -> Void) throws -> String {
    let folder = try TemporaryFolder()
    let path = folder.file("a.h5")
    try ModelFile.write(try fullModel(), to: path)
    RawHDF5.change(path) { change($0.file) }
    return message { _ = try ModelFile.read(path) }
  }

  @Test func unknownAndMissingPartsAreNamed() throws {
    let extra = try refusal { RawHDF5(file: $0).add("parameters/extra", [1], [1]) }
    #expect(extra.contains("parameters/extra"))
    let stray = try refusal { RawHDF5(file: $0).add("stray", [1], [1]) }
    #expect(stray.contains("stray"))
    for name in ["graph", "facts", "provenance", "image_transform", "parameters/logit_scale"] {
      let gone = try refusal { _ = H5Ldelete($0, "/" + name, clip_h5_default()) }
      #expect(gone.contains("expected 1 more dataset: \(name)"), "\(gone)")
    }
  }

  @Test func wrongContentsAreNamed() throws {
    func replace(
      _ name: String, _ shape: [Int], _ values: [Int64], _ type: hid_t
    ) throws -> String {
      try refusal { file in
        _ = H5Ldelete(file, "/" + name, clip_h5_default())
        RawHDF5(file: file).add(name, shape, integers: values, type: type)
      }
    }
    #expect(try replace("graph", [2], [0xFF, 0xFE], clip_h5_uint8()).contains("text in UTF-8"))
    #expect(try replace("graph", [3], [65, 66, 67], clip_h5_uint8()).contains("clipc-graph 1"))
    #expect(try replace("graph", [3], [65, 66, 67], clip_h5_int32()).contains("found int32"))
    #expect(try replace("facts", [2], [123, 125], clip_h5_uint8()).contains("name, value"))
    #expect(try replace("provenance", [1], [91], clip_h5_uint8()).contains("provenance, byte 1"))
    #expect(
      try replace("parameters/logit_scale", [1], [0], clip_h5_int32()).contains("logit_scale"))
    let version = try refusal { file in
      _ = H5Adelete_by_name(file, "/", "format_version", clip_h5_default())
    }
    #expect(version.contains("format_version: expected 1 to 2, found nothing"))
  }

  @Test(.enabled(if: HDF5Worker.executable != nil, "needs clipc beside the tests"))
  func damageIsRefusedOrHarmless() throws {
    let folder = try TemporaryFolder()
    try ModelFile.write(try fullModel(), to: folder.file("a.h5"))
    let bytes = try contents(folder.file("a.h5"))
    let path = URL(fileURLWithPath: folder.file("b.h5"))
    var random = SplitMix64(seed: 9)
    for _ in 0..<100 {
      var damaged = bytes
      damaged[random.nextIndex(below: bytes.count)] ^= 1 << UInt8(random.nextIndex(below: 8))
      try Data(damaged).write(to: path)
      #expect(!message { _ = try ModelFile.read(path.path) }.contains("\n"))
    }
  }
}

@Suite struct WriterTests {
  @Test func anOldFileStaysWhenWritingFails() throws {
    let folder = try TemporaryFolder()
    try folder.write("old", to: "out.h5")
    let text = message {
      try HDF5Writer.write(to: folder.file("out.h5")) { writer throws(CheckpointError) in
        try writer.add("x", [1, 2, 3])
        throw .library(path: "x", reason: "a reason")
      }
    }
    #expect(text.contains("a reason"))
    #expect(try contents(folder.file("out.h5")) == Array("old".utf8))
    #expect(try folder.names() == ["out.h5"])
  }

  @Test func placesThatCannotBeWrittenAreNamed() throws {
    let folder = try TemporaryFolder()
    for path in [folder.file("gone/out.h5"), folder.path, "/dev/null", "/proc/out.h5"] {
      do {
        try HDF5Writer.write(to: path) { writer throws(CheckpointError) in
          try writer.add("x", [1])
        }
        Issue.record("\(path) was written")
      } catch {
        #expect(error.exitCode == 73, "\(error)")
      }
    }
  }

  @Test func tensorsAreReadBack() throws {
    let folder = try TemporaryFolder()
    let tensor = Tensor(shape: [2, 3], [Float(1), -0.0, 2, 3, 4, 5])
    try HDF5Writer.write(to: folder.file("o.h5")) { writer throws(CheckpointError) in
      try writer.add("pixel_values", tensor)
      try writer.add("input_ids", Tensor(shape: [3], [Int32(1), 2, -3]))
      try writer.addGroup("g")
      try writer.add("g/empty", Tensor(shape: [0, 4], [Float]()))
      try writer.setAttribute("note", of: "g/empty", to: "grüße")
    }
    let file = try HDF5File(opening: folder.file("o.h5"))
    #expect(try file.floats("pixel_values") == tensor)
    #expect(try file.integers("input_ids").elements(of: Int32.self) == [1, 2, -3])
    #expect(try file.floats("g/empty").shape == [0, 4])
    #expect(file.string("note", of: "g/empty") == "grüße")
  }

  @Test func aFullDiskLeavesNothing() async throws {
    await #expect(processExitsWith: .success) {
      signal(SIGXFSZ, SIG_IGN)
      let folder = try TemporaryFolder()
      try folder.write("old", to: "out.h5")
      let model = try fullModel()
      for count: UInt in [0, 100, 4096, 20_000] {
        limit(fileBytes: count)
        do throws(CheckpointError) {
          try ModelFile.write(model, to: folder.file("out.h5"))
          exit(1)
        } catch {
          guard error.exitCode == 73 else { exit(2) }
        }
        guard try contents(folder.file("out.h5")) == Array("old".utf8),
          try folder.names() == ["out.h5"]
        else { exit(3) }
      }
      limit(fileBytes: 1 << 30)
      try ModelFile.write(model, to: folder.file("out.h5"))
      expectSame(model, try ModelFile.read(folder.file("out.h5")))
    }
  }
}

/// Sets the largest size that a file of this process can grow to.
private func limit(fileBytes: UInt) {
  var limits = rlimit()
  getrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limits)
  limits.rlim_cur = fileBytes
  setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limits)
}
