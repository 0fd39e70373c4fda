import Checkpoints
import ClipRuntime
import Datasets
import Execution
import Export
import GraphIR
import ModelFormat
import Passes
import Preprocessing
import Training

extension Failure {
  /// The sentence and exit code for an error of a library.
  init(describing error: any Error) {
    switch error {
    case let error as CheckpointError:
      self.init(Kind(rawValue: error.exitCode) ?? .fault, error.description)
    case let error as DataError:
      self.init(error.kind == .missing ? .missingInput : .malformedInput, error.description)
    case let error as PassError: self.init(passError: error)
    case let error as PreprocessingError: self.init(.malformedInput, error.description)
    case let error as ModelError: self.init(.malformedInput, error.description)
    case let error as ExportError: self.init(.malformedInput, error.description)
    case let error as ExecutionError: self.init(.malformedInput, error.description)
    case let error as GraphError: self.init(.malformedInput, error.description)
    case let error as RuntimeError: self.init(.malformedInput, error.description)
    case let error as TrainingError: self.init(.malformedInput, error.description)
    case let error as TrainingStateError: self.init(.malformedInput, error.description)
    case let error as TrainingLogError:
      if case .file = error {
        self.init(.output, error.description)
      } else {
        self.init(.malformedInput, error.description)
      }
    case let error as LossMixtureError: self.init(.usage, error.description)
    case let error as ReinforcementError: self.init(.malformedInput, error.description)
    case let error as ContainerError: self.init(.malformedInput, error.description)
    default: self.init(.fault, "\(error)")
    }
  }

  private init(passError error: PassError) {
    switch error {
    case .option, .needsData: self.init(.usage, error.description)
    case .unsuitable, .parameter: self.init(.malformedInput, error.description)
    case .graph: self.init(.fault, error.description)
    case .calibration(let cause): self = cause as? Failure ?? Failure(describing: cause)
    }
  }
}
