import GraphIR
import TensorCore

/// Reads and checks the parts of a clipc model file.
struct ModelFileReader {
  let file: HDF5File

  private func malformed(
    _ location: String, _ expected: String, _ found: String
  ) -> CheckpointError {
    .malformed(path: file.path, location: location, expected: expected, found: found)
  }

  /// The bytes of `part`, or nil when the file has none.
  func bytes(_ part: ModelFile.Part) throws(CheckpointError) -> [UInt8]? {
    guard let dataset = file.dataset(part.rawValue) else { return nil }
    guard dataset.shape.count == 1, (dataset.byteCount ?? Int.max) <= 256 << 20 else {
      throw malformed(
        "dataset \(part.rawValue)", "a row of at most 256 MiB", "shape \(dataset.shape)")
    }
    return try file.elements(part.rawValue, of: UInt8.self).elements(of: UInt8.self)
  }

  /// The bytes of `part`, which the file must have.
  func required(_ part: ModelFile.Part) throws(CheckpointError) -> [UInt8] {
    guard let bytes = try bytes(part) else {
      throw .datasets(
        path: file.path, missing: [.init(name: part.rawValue, shape: [])], unexpected: [])
    }
    return bytes
  }

  /// The text of `part`, which the file must have.
  func text(_ part: ModelFile.Part) throws(CheckpointError) -> String {
    guard let text = String(validating: try required(part), as: UTF8.self) else {
      throw malformed("dataset \(part.rawValue)", "text in UTF-8", "other bytes")
    }
    return text
  }

  /// The parameter `name` with its mask and quantization.
  func parameter(_ name: String, _ type: TensorType) throws(CheckpointError) -> Parameter {
    let place = "\(ModelFile.Group.parameters.rawValue)/\(name)"
    guard let shape = type.shape(binding: [:]), elementCount(of: shape) != nil else {
      throw malformed("dataset graph, parameter \(name)", "known extents", "\(type)")
    }
    guard let width = elementCount(of: Array(shape.dropFirst())), width <= Int(Int32.max) else {
      throw malformed("dataset graph, parameter \(name)", "rows of fewer elements", "\(type)")
    }
    let mask = try mask(name, shape)
    guard let quantization = try quantization(name, shape) else {
      switch type.dtype {
      case .float32: return Parameter(try file.floats(place, shape: shape), mask: mask)
      case .int32:
        return Parameter(try file.elements(place, of: Int32.self, shape: shape), mask: mask)
      default:
        throw malformed("dataset graph, parameter \(name)", "f32 or i32", type.dtype.rawValue)
      }
    }
    let codes = try file.elements(place, of: Int8.self, shape: shape)
    let range = quantization.smallestCode...quantization.largestCode
    let stray = codes.withElements(of: Int8.self) { codes in
      codes.firstIndex { !range.contains(Int($0)) }
    }
    if let stray {
      throw malformed("dataset \(place), index \(stray)", "a code in \(range)", "another")
    }
    return Parameter(codes, mask: mask, quantization: quantization)
  }

  private func mask(_ name: String, _ shape: [Int]) throws(CheckpointError) -> Tensor? {
    let place = "\(ModelFile.Group.masks.rawValue)/\(name)"
    guard let dataset = file.dataset(place) else { return nil }
    let byteCount = ((elementCount(of: shape) ?? 0) + 7) / 8
    guard dataset.shape == [byteCount] else {
      throw malformed("dataset \(place)", "shape [\(byteCount)]", "\(dataset.shape)")
    }
    let bytes = try file.elements(place, of: UInt8.self).elements(of: UInt8.self)
    guard let mask = BitMask.unpacked(bytes, shape: shape) else {
      throw malformed("dataset \(place)", "zero bits behind the last element", "others")
    }
    return mask
  }

  private func quantization(
    _ name: String, _ shape: [Int]
  ) throws(CheckpointError) -> WeightQuantization? {
    let place = "\(ModelFile.Group.scales.rawValue)/\(name)"
    guard file.dataset(place) != nil else { return nil }
    guard case .integers(let counts)? = file.attribute("bit_count", of: place), counts.count == 1,
      (2...8).contains(counts[0])
    else {
      throw malformed(
        "dataset \(place), attribute bit_count", "2 to 8",
        file.attribute("bit_count", of: place).map { "\($0)" } ?? "nothing")
    }
    var quantization = WeightQuantization(
      bitCount: counts[0], grid: try grid(place), groupSize: try groupSize(place),
      scales: Tensor(shape: [0], [Float]()))
    quantization.scales = try file.floats(place, shape: quantization.scaleShape(of: shape))
    return quantization
  }

  private func grid(_ place: String) throws(CheckpointError) -> CodeGrid {
    guard file.attribute("grid", of: place) != nil else { return .symmetric }
    guard let grid = file.string("grid", of: place).flatMap(CodeGrid.init) else {
      throw malformed("dataset \(place), attribute grid", "symmetric or full", "another")
    }
    return grid
  }

  private func groupSize(_ place: String) throws(CheckpointError) -> Int? {
    guard let attribute = file.attribute("group_size", of: place) else { return nil }
    guard case .integers(let sizes) = attribute, sizes.count == 1, sizes[0] > 0,
      sizes[0] <= Int(Int32.max)
    else {
      throw malformed(
        "dataset \(place), attribute group_size", "a positive number", "\(attribute)")
    }
    return Int(sizes[0])
  }

  /// Throws when the file holds a dataset that no part of the model explains.
  func checkNames(parameters: Set<String>) throws(CheckpointError) {
    let unexpected = file.datasets.map(\.name).filter { name in
      if ModelFile.Part(rawValue: name) != nil { return false }
      let parts = name.split(separator: "/", maxSplits: 1)
      return parts.count != 2 || ModelFile.Group(rawValue: String(parts[0])) == nil
        || !parameters.contains(String(parts[1]))
    }
    guard unexpected.isEmpty else {
      throw .datasets(path: file.path, missing: [], unexpected: unexpected)
    }
  }

  /// The statements of the model.
  func facts() throws(CheckpointError) -> [Fact] {
    guard let facts = ModelRecords.facts(try records(.facts)) else {
      throw malformed("dataset facts", "objects of name, value and source", "others")
    }
    return facts
  }

  /// The steps of the model.
  func provenance() throws(CheckpointError) -> [ProvenanceStep] {
    guard let steps = ModelRecords.provenance(try records(.provenance)) else {
      throw malformed(
        "dataset provenance", "objects of pass, options, seed and input_sha256", "others")
    }
    return steps
  }

  private func records(_ part: ModelFile.Part) throws(CheckpointError) -> JSONValue {
    let bytes = try required(part)
    do throws(JSONFault) {
      return try JSONValue(parsing: bytes)
    } catch {
      throw malformed(
        "dataset \(part.rawValue), byte \(error.offset)", error.expected, "something else")
    }
  }
}
