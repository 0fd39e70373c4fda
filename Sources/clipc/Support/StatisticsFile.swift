import Checkpoints
import Foundation
import GraphIR
import TensorCore

/// Statistics of a model over calibration data in a file, for later runs on the same.
///
/// One HDF5 file, written whole or not at all. What it holds of another model, or of other data, is
/// passed over and written anew.
final class StatisticsFile: TensorRecords {
  private static let format = "clipc-statistics"
  private let path: String
  private let work: String

  /// The statistics at `path`, if any, of the model and the samples that `work` names.
  init(path: String, work: String) {
    self.path = path
    self.work = work
  }

  /// The file of statistics of `opened` over `batches`.
  convenience init(path: String, _ opened: OpenedModel, _ batches: CalibrationBatches) throws {
    self.init(path: path, work: "\(try opened.sha256()) \(try batches.identity())")
  }

  func tensors(for key: String) throws -> [String: Tensor]? {
    guard FileManager.default.fileExists(atPath: path) else { return nil }
    let file = try HDF5File(opening: path)
    guard file.string("format", of: "") == Self.format else {
      throw Failure(
        .malformedInput, "\(path): expected statistics of clipc, found another file")
    }
    guard try text("work", of: file) == work, try text("key", of: file) == key else {
      Terminal.warn("\(path): holds statistics of another model, or other data; gathered anew")
      return nil
    }
    var tensors: [String: Tensor] = [:]
    for dataset in file.datasets where dataset.name.hasPrefix("tensors/") {
      let name = String(dataset.name.dropFirst("tensors/".count))
      tensors[name] =
        name.hasSuffix(".histogram")
        ? try file.elements(dataset.name, of: Double.self)
        : try file.elements(dataset.name, of: Float.self)
    }
    return tensors
  }

  private func text(_ name: String, of file: HDF5File) throws -> String? {
    let bytes = try file.elements(name, of: UInt8.self).elements(of: UInt8.self)
    return String(validating: bytes, as: UTF8.self)
  }

  func keep(_ tensors: [String: Tensor], for key: String) throws {
    let byteCount = tensors.values.reduce(4096) { $0 + $1.byteCount + 512 }
    try HDF5Writer.write(to: path, byteCount: byteCount) { writer throws(CheckpointError) in
      try writer.setAttribute("format", of: "", to: Self.format)
      try writer.add("work", Array(work.utf8))
      try writer.add("key", Array(key.utf8))
      try writer.addGroup("tensors")
      for (name, tensor) in tensors.sorted(by: { $0.key < $1.key }) {
        try writer.add("tensors/\(name)", tensor)
      }
    }
  }
}

/// Statistics of one model over one choice of data for as long as the process runs.
final class KeptStatistics: TensorRecords {
  private var known: [String: [String: Tensor]] = [:]

  func tensors(for key: String) -> [String: Tensor]? { known[key] }

  func keep(_ tensors: [String: Tensor], for key: String) { known[key] = tensors }
}
