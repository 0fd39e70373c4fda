import Checkpoints
import Foundation
import TensorCore
import Testing
import Training

@Suite struct ReinforceDamageTests {
  /// All of a file, to be changed and written again.
  private struct Contents {
    var texts: [String: String] = [:]
    var version: Int32 = 1
    var parts: [String: Tensor] = [:]

    init(_ path: String) throws {
      let file = try HDF5File(opening: path)
      for name in ["format", "teacher_sha256", "data_kind", "data_sha256"] {
        texts[name] = file.string(name, of: "")
      }
      for dataset in file.datasets {
        parts[dataset.name] =
          if case .integer = dataset.elementType { try file.integers(dataset.name) } else {
            try file.floats(dataset.name)
          }
      }
    }

    func write(to path: String) throws {
      try HDF5Writer.write(to: path) { writer throws(CheckpointError) in
        for (name, text) in texts.sorted(by: { $0.key < $1.key }) {
          try writer.setAttribute(name, of: "", to: text)
        }
        try writer.setAttribute("format_version", of: "", to: version)
        for (name, tensor) in parts.sorted(by: { $0.key < $1.key }) {
          try writer.add(name, tensor)
        }
      }
    }

    /// Changes one number of a dataset.
    mutating func set<Element: TensorElement>(_ name: String, _ index: Int, _ value: Element) {
      guard let tensor = parts[name] else { return }
      var elements = tensor.elements(of: Element.self)
      elements[index] = value
      parts[name] = Tensor(shape: tensor.shape, elements)
    }

    /// Gives a dataset other extents, cut off or filled up with zero.
    mutating func reshape<Element: TensorElement & Numeric>(
      _ name: String, _ shape: [Int], _: Element.Type
    ) {
      guard let tensor = parts[name] else { return }
      let elements = tensor.elements(of: Element.self)
      let count = shape.reduce(1, *)
      parts[name] = Tensor(
        shape: shape, (0..<count).map { $0 < elements.count ? elements[$0] : .zero })
    }
  }

  /// What the reader says of a whole file after `change`, without the path.
  private func refusal(_ change: (inout Contents) -> Void) throws -> String {
    let fixture = try ReinforceFixture()
    var contents = try Contents(fixture.written())
    change(&contents)
    let path = fixture.file("b.h5")
    try contents.write(to: path)
    do throws(CheckpointError) {
      _ = try ReinforcedDataset(opening: path)
      return "nothing"
    } catch {
      #expect(error.exitCode == 65)
      return String("\(error)".dropFirst(path.count + 2))
    }
  }

  @Test func aCopyIsTaken() throws {
    #expect(try refusal { _ in } == "nothing")
  }

  @Test func attributesAreChecked() throws {
    #expect(
      try refusal { $0.texts["format"] = "clipc-model" }
        == "attribute format: expected clipc-reinforced, found clipc-model")
    #expect(try refusal { $0.texts["format"] = nil }.hasPrefix("attribute format: "))
    #expect(try refusal { $0.version = 2 }.hasPrefix("attribute format_version: expected 1 to 1"))
    #expect(try refusal { $0.version = 0 }.hasPrefix("attribute format_version: "))
    #expect(
      try refusal { $0.texts["data_kind"] = "disk" }
        == "attribute data_kind: expected a kind of data, found disk")
    for name in ["teacher_sha256", "data_sha256"] {
      let start = "attribute \(name): expected 64 digits"
      #expect(try refusal { $0.texts[name] = nil }.hasPrefix(start))
      #expect(try refusal { $0.texts[name]? += "0" }.hasPrefix(start))
      #expect(try refusal { $0.texts[name] = String(repeating: "G", count: 64) }.hasPrefix(start))
    }
  }

  @Test(
    arguments: [
      "image_size", "logit_scale", "view_parameters", "image_embeddings", "text_tokens",
      "text_lengths", "text_embeddings",
    ])
  func absentDatasetsAreNamed(_ name: String) throws {
    let text = try refusal { $0.parts[name] = nil }
    #expect(text.contains("expected") && text.contains(name), "\(text)")
  }

  @Test func unknownDatasetsAreNamed() throws {
    let text = try refusal { $0.parts["extra"] = Tensor(scalar: 1) }
    #expect(text == "found 1 unknown dataset: extra")
  }

  @Test func extentsAreChecked() throws {
    let ranks = "dataset image_embeddings: expected [samples, views, numbers], none of them 0, "
    #expect(
      try refusal { $0.reshape("image_embeddings", [12, 5], Float.self) }
        == ranks + "found shape [12, 5]")
    #expect(
      try refusal { $0.reshape("image_embeddings", [0, 3, 5], Float.self) }
        == ranks + "found shape [0, 3, 5]")
    #expect(
      try refusal { $0.reshape("image_embeddings", [4, 3, 4], Float.self) }
        .hasPrefix("dataset image_embeddings, row "))
    #expect(
      try refusal { $0.reshape("image_embeddings", [5, 3, 5], Float.self) }
        == "dataset view_parameters: expected shape [5, 3, 8], found [4, 3, 8]")
    #expect(
      try refusal { $0.reshape("view_parameters", [4, 3, 7], Int32.self) }
        == "dataset view_parameters: expected shape [4, 3, 8], found [4, 3, 7]")
    #expect(
      try refusal { $0.reshape("text_tokens", [15], Int32.self) }
        .hasPrefix("dataset text_tokens: expected [texts, tokens]"))
    #expect(
      try refusal { $0.reshape("text_lengths", [2], Int32.self) }
        == "dataset text_lengths: expected shape [3], found [2]")
    #expect(
      try refusal { $0.reshape("text_embeddings", [3, 4], Float.self) }
        == "dataset text_embeddings: expected shape [3, 5], found [3, 4]")
    #expect(
      try refusal { $0.reshape("class_embeddings", [2, 4], Float.self) }
        == "dataset class_embeddings: expected shape [2, 5], found [2, 4]")
    #expect(
      try refusal { $0.reshape("class_embeddings", [10], Float.self) }
        .hasPrefix("dataset class_embeddings: expected [classes, numbers]"))
    #expect(
      try refusal { $0.reshape("logit_scale", [1], Float.self) }
        == "dataset logit_scale: expected shape [], found [1]")
    #expect(
      try refusal { $0.reshape("image_size", [3], Int32.self) }
        == "dataset image_size: expected shape [2], found [3]")
  }

  @Test func elementTypesAreChecked() throws {
    for name in ["view_parameters", "text_tokens", "text_lengths", "image_size"] {
      let text = try refusal { contents in
        guard let tensor = contents.parts[name] else { return }
        let values = tensor.elements(of: Int32.self).map { Float($0) }
        contents.parts[name] = Tensor(shape: tensor.shape, values)
      }
      #expect(text == "dataset \(name): expected int32, found float32")
    }
    for name in ["image_embeddings", "text_embeddings", "class_embeddings", "logit_scale"] {
      let text = try refusal { contents in
        guard let tensor = contents.parts[name] else { return }
        contents.parts[name] = Tensor(
          shape: tensor.shape, tensor.elements(of: Float.self).map { Int32($0) })
      }
      #expect(text.hasPrefix("dataset \(name): expected float16"), "\(text)")
    }
  }

  @Test func numbersAreChecked() throws {
    for name in ["image_embeddings", "text_embeddings", "class_embeddings"] {
      #expect(
        try refusal { $0.set(name, 7, Float.nan) }
          == "dataset \(name): expected finite numbers, found not a number at index 7")
      #expect(
        try refusal { $0.set(name, 7, Float(2)) }
          .hasPrefix("dataset \(name), row 1: expected numbers whose squares add up to 1"))
      // Squares beyond float32.
      #expect(
        try refusal { $0.set(name, 7, Float(1e30)) }.hasPrefix("dataset \(name), row 1: "))
    }
    for scale in [0, -2] as [Float] {
      #expect(
        try refusal { $0.set("logit_scale", 0, scale) }
          .hasPrefix("dataset logit_scale: expected a positive number"))
    }
    #expect(
      try refusal { $0.set("logit_scale", 0, Float.infinity) }
        .hasPrefix("dataset logit_scale: expected finite"))
    #expect(
      try refusal { $0.set("image_size", 1, Int32(0)) }
        .hasPrefix("dataset image_size: expected a positive height and width"))
  }

  @Test func parametersAreChecked() throws {
    let start = "dataset view_parameters, sample 1, view 2: expected"
    // Of row 5: top, height, shifts, flip, brightness.
    for (index, value) in [
      (0, Int32(-1)), (2, -4), (4, .min), (5, 1 << 20), (6, 2), (7, -1), (7, 0x4080_0000),
    ] {
      let text = try refusal { $0.set("view_parameters", 5 * 8 + index, value) }
      #expect(text.hasPrefix(start), "\(index), \(value): \(text)")
    }
  }

  @Test func textsAreChecked() throws {
    #expect(
      try refusal { $0.set("text_lengths", 1, Int32(0)) }
        == "dataset text_lengths, row 1: expected 1 to 5, found 0")
    #expect(
      try refusal { $0.set("text_lengths", 1, Int32(6)) }
        == "dataset text_lengths, row 1: expected 1 to 5, found 6")
    #expect(
      try refusal { $0.set("text_lengths", 1, Int32(3)) }
        == "dataset text_tokens, row 1: expected 3 ids, then zeros, found 2 ids")
    #expect(
      try refusal { $0.set("text_lengths", 2, Int32(4)) }
        == "dataset text_tokens: expected an extent of the longest text, found 5")
    #expect(
      try refusal { $0.set("text_tokens", 4, Int32(8)) }
        == "dataset text_tokens, row 0: expected 3 ids, then zeros, found 5 ids")
    #expect(
      try refusal { $0.set("text_tokens", 5, Int32(-9)) }
        == "dataset text_tokens, row 1: expected ids of 0 and more, found -9")
    let twice = try refusal { contents in
      contents.set("text_tokens", 1, Int32(7))
      contents.set("text_tokens", 2, Int32(0))
      contents.set("text_lengths", 0, Int32(2))
    }
    #expect(twice == "dataset text_tokens, row 1: expected distinct texts, found the one of row 0")
  }

  @Test func aFileCutShortIsAnErrorEverywhere() throws {
    let fixture = try ReinforceFixture()
    let path = try fixture.written()
    let whole = try Data(contentsOf: URL(fileURLWithPath: path))
    for count in stride(from: 0, to: whole.count, by: 211) {
      try whole.prefix(count).write(to: URL(fileURLWithPath: path))
      #expect(throws: CheckpointError.self) { try ReinforcedDataset(opening: path) }
    }
    #expect(throws: CheckpointError.self) {
      try ReinforcedDataset(opening: fixture.file("none.h5"))
    }
  }
}
