import Checkpoints
import Foundation
import TensorCore

/// The file from which an interrupted run goes on: what decides the run, and where it is.
///
/// One HDF5 file, written whole or not at all, so that the last good state stays whatever happens.
package struct TrainingStateFile: Sendable {
  private static let format = "clipc-training-state"

  /// What decides the run, by name in words; a run goes on only with the same.
  package var options: [String: String]
  /// Which part of the run is going on, from zero.
  package var phase: Int
  /// The state of the trainer.
  package var tensors: [NamedTensor]

  /// Steps done in the phase.
  package var step: Int {
    guard let tensor = tensors.first(where: { $0.name == "step" })?.tensor,
      tensor.dtype == .int32, tensor.count == 1
    else { return 0 }
    return max(0, Int(tensor.elements(of: Int32.self)[0]))
  }

  /// Holds a state.
  package init(options: [String: String], phase: Int, tensors: [NamedTensor]) {
    self.options = options
    self.phase = phase
    self.tensors = tensors
  }

  /// Reads the state at `path`.
  ///
  /// - Throws: ``CheckpointError`` unless it is a state that is understood.
  package init(opening path: String) throws(CheckpointError) {
    let file = try HDF5File(opening: path)
    guard file.string("format", of: "") == Self.format else {
      throw .malformed(
        path: path, location: "attribute format", expected: Self.format,
        found: file.string("format", of: "") ?? "nothing")
    }
    guard case .integers(let phases)? = file.attribute("phase", of: ""), phases.count == 1,
      phases[0] >= 0
    else {
      throw .malformed(
        path: path, location: "attribute phase", expected: "an integer", found: "something else")
    }
    phase = phases[0]
    let text = try file.elements("options", of: UInt8.self).elements(of: UInt8.self)
    guard let options = try? JSONDecoder().decode([String: String].self, from: Data(text)) else {
      throw .malformed(
        path: path, location: "dataset options", expected: "a JSON object of texts",
        found: "something else")
    }
    self.options = options
    tensors = []
    for dataset in file.datasets where dataset.name.hasPrefix("tensors/") {
      let name = String(dataset.name.dropFirst("tensors/".count)).replacing(":", with: "/")
      let tensor: Tensor
      switch dataset.elementType {
      case .float(bitCount: 64, _): tensor = try file.elements(dataset.name, of: Double.self)
      case .integer: tensor = try file.integers(dataset.name)
      default: tensor = try file.floats(dataset.name)
      }
      tensors.append((name, tensor))
    }
  }

  /// Writes the state to `path`; a former state stays until this one is complete.
  ///
  /// - Throws: ``CheckpointError/unwritable(path:reason:)``.
  package func write(to path: String) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    let text = [UInt8](try encoder.encode(options))
    let byteCount = tensors.reduce(text.count) { $0 + $1.tensor.byteCount + 512 }
    try HDF5Writer.write(to: path, byteCount: byteCount) { writer throws(CheckpointError) in
      try writer.setAttribute("format", of: "", to: Self.format)
      try writer.setAttribute("phase", of: "", to: Int32(phase))
      try writer.add("options", text)
      try writer.addGroup("tensors")
      for (name, tensor) in tensors {
        try writer.add("tensors/" + name.replacing("/", with: ":"), tensor)
      }
    }
  }

  /// The options in which `other` differs, in words; nil where there are none.
  package func difference(from other: [String: String]) -> String? {
    let names = Set(options.keys).union(other.keys).sorted()
    let changed = names.filter { options[$0] != other[$0] }.map { name in
      "\(name) was \(options[name] ?? "absent") and is \(other[name] ?? "absent")"
    }
    return changed.isEmpty ? nil : changed.joined(separator: ", ")
  }
}
