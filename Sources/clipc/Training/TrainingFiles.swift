import Checkpoints
import Foundation
import GraphIR
import Training

/// The files that stand beside a run's result.
struct TrainingFiles {
  private let base: String

  /// Names the files beside `output`.
  init(output: String) {
    base = output.hasSuffix(".h5") ? String(output.dropLast(3)) : output
  }

  var log: String { base + ".log.jsonl" }
  var curve: String { base + ".svg" }
  var loads: String { base + ".experts.svg" }
  var state: String { base + ".state" }

  /// The student with which phase `phase` begins, where that is not the first.
  func student(ofPhase phase: Int) -> String { "\(base).phase-\(phase).h5" }

  /// Whether an interrupted run left a state.
  var hasState: Bool { FileManager.default.fileExists(atPath: state) }

  /// Writes the drawing.
  func write(_ curve: Curve) throws {
    try FileReplacement.write(to: self.curve) { sink in
      try Array(curve.svg.utf8).withUnsafeBytes { try sink($0) }
    }
  }

  /// Removes what only an interrupted run needs.
  func removeState(phaseCount: Int) {
    try? FileManager.default.removeItem(atPath: state)
    removeStudents(before: phaseCount)
  }

  /// Removes the students of phases that are over.
  func removeStudents(before phase: Int) {
    for index in 0..<max(phase, 0) {
      try? FileManager.default.removeItem(atPath: student(ofPhase: index))
    }
  }
}
