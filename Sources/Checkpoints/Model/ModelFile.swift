import GraphIR
import Operators
import TensorCore

/// The clipc model `.h5`: a whole model in one HDF5 file, specified in `formats/checkpoint.md`.
package enum ModelFile {
  /// The value of the root attribute `format`.
  static let format = "clipc-model"
  /// The version that is written, and the newest that is read.
  static let version = 2

  /// The root's datasets.
  enum Part: String, CaseIterable {
    case graph
    case facts
    case provenance
    case tokenizer
    case imageTransform = "image_transform"
  }

  /// The root's groups, with a dataset for each parameter concerned.
  enum Group: String, CaseIterable {
    case parameters
    case masks
    case scales
  }

  /// Whether `file` says that it is a clipc model.
  package static func isModel(_ file: HDF5File) -> Bool {
    file.string("format", of: "") == format
  }

  /// Writes `model` to `path`, whole or not at all.
  ///
  /// - Throws: ``CheckpointError/unwritable(path:reason:)``; an older file then is as it was.
  package static func write(_ model: CLIPModel, to path: String) throws(CheckpointError) {
    let graph = model.graph
    let parameters = graph.parameterValues.compactMap { value in
      graph.parameter(value).map { (name: graph.name(of: value), parameter: $0) }
    }
    let byteCount = parameters.reduce(0) { $0 + byteCountOnDisk($1.parameter) }
    try HDF5Writer.write(to: path, byteCount: byteCount) { writer throws(CheckpointError) in
      try writer.setAttribute("format", of: "", to: format)
      try writer.setAttribute("format_version", of: "", to: Int32(version))
      try writer.add(Part.graph.rawValue, Array(graph.text().utf8))
      try writer.add(Part.facts.rawValue, Array(ModelRecords.text(graph.facts).utf8))
      try writer.add(
        Part.provenance.rawValue, Array(ModelRecords.text(graph.provenance).utf8))
      if let tokenizer = model.tokenizer { try writer.add(Part.tokenizer.rawValue, tokenizer) }
      try writer.add(Part.imageTransform.rawValue, model.imageTransform)
      for group in Group.allCases { try writer.addGroup(group.rawValue) }
      for (name, parameter) in parameters {
        try writer.add("\(Group.parameters.rawValue)/\(name)", parameter.tensor)
        if let mask = parameter.mask {
          try writer.add("\(Group.masks.rawValue)/\(name)", BitMask.packed(mask))
        }
        if let quantization = parameter.quantization {
          let scales = "\(Group.scales.rawValue)/\(name)"
          try writer.add(scales, quantization.scales)
          try writer.setAttribute("bit_count", of: scales, to: Int32(quantization.bitCount))
          try writer.setAttribute("grid", of: scales, to: quantization.grid.rawValue)
          if let groupSize = quantization.groupSize {
            try writer.setAttribute("group_size", of: scales, to: Int32(clamping: groupSize))
          }
        }
      }
    }
  }

  private static func byteCountOnDisk(_ parameter: Parameter) -> Int {
    parameter.tensor.byteCount + (parameter.mask.map { $0.count / 8 } ?? 0)
      + (parameter.quantization?.scales.byteCount ?? 0) + 512
  }

  /// Reads the model at `path`.
  package static func read(
    _ path: String, registry: OperatorRegistry = .standard
  ) throws(CheckpointError) -> CLIPModel {
    try read(try HDF5File(opening: path), registry: registry)
  }

  /// Reads the model in `file`.
  ///
  /// - Throws: ``CheckpointError`` unless everything in the file is understood and fits.
  package static func read(
    _ file: HDF5File, registry: OperatorRegistry = .standard
  ) throws(CheckpointError) -> CLIPModel {
    guard isModel(file) else {
      throw .malformed(
        path: file.path, location: "attribute format", expected: format,
        found: file.string("format", of: "") ?? "nothing")
    }
    guard case .integers(let versions)? = file.attribute("format_version", of: ""),
      versions.count == 1, (1...version).contains(versions[0])
    else {
      throw .malformed(
        path: file.path, location: "attribute format_version", expected: "1 to \(version)",
        found: file.attribute("format_version", of: "").map { "\($0)" } ?? "nothing")
    }
    let reader = ModelFileReader(file: file)
    let text = try reader.text(.graph)
    var parameterNames: Set<String> = []
    var failure: CheckpointError?
    var graph: Graph
    do throws(GraphError) {
      graph = try Graph(parsing: text, registry: registry) { name, type throws(GraphError) in
        do throws(CheckpointError) {
          parameterNames.insert(name)
          return try reader.parameter(name, type)
        } catch {
          failure = error
          throw .unknownName(name)
        }
      }
      try graph.verify()
    } catch {
      throw failure
        ?? .malformed(
          path: file.path, location: "dataset graph", expected: "a graph that holds together",
          found: "\(error)")
    }
    try reader.checkNames(parameters: parameterNames)
    graph.facts = try reader.facts()
    graph.provenance = try reader.provenance()
    return CLIPModel(
      graph: graph, tokenizer: try reader.bytes(.tokenizer),
      imageTransform: try reader.required(.imageTransform))
  }
}

/// Masks with a bit for an element.
enum BitMask {
  /// The elements of `mask`, lowest bit first, the last byte filled up with zero.
  static func packed(_ mask: Tensor) -> [UInt8] {
    mask.withElements(of: UInt8.self) { elements in
      var bytes = [UInt8](repeating: 0, count: (elements.count + 7) / 8)
      for (index, element) in elements.enumerated() where element != 0 {
        bytes[index >> 3] |= 1 << UInt8(index & 7)
      }
      return bytes
    }
  }

  /// The mask of `shape` whose bits are `bytes`, or nil when there are more or fewer.
  static func unpacked(_ bytes: [UInt8], shape: [Int]) -> Tensor? {
    guard let count = elementCount(of: shape), bytes.count == (count + 7) / 8 else { return nil }
    if count % 8 != 0, let last = bytes.last, last >> UInt8(count % 8) != 0 { return nil }
    return Tensor(shape: shape, of: UInt8.self) { target in
      for index in target.indices { target[index] = bytes[index >> 3] >> UInt8(index & 7) & 1 }
    }
  }
}
