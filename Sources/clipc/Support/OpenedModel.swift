import Checkpoints
import ClipRuntime
import Evaluation
import Export
import Foundation
import GraphIR
import ModelFormat
import Operators
import Preprocessing

/// A MODEL argument, opened: told apart by what it holds.
final class OpenedModel {
  /// What was opened.
  enum Content {
    case graph(CLIPModel)
    case runtime(RuntimeBytes)
  }

  /// The argument.
  let path: String
  /// `hugging-face`, `keras-hub`, `clipc-model` or `runtime`.
  let kind: String
  /// What was opened.
  let content: Content
  /// Bytes of the file, or of the checkpoint's weights.
  let fileByteCount: Int
  private let hash: () throws -> String

  /// Opens the model at `path`.
  init(path: String) throws {
    self.path = path
    if let mapped = try Self.runtimeFile(path) {
      content = .runtime(try RuntimeBytes(mapped, path: path))
      kind = "runtime"
      fileByteCount = mapped.bytes.count
      hash = { try SHA256.hash(fileAt: path) }
      return
    }
    let checkpoint = try CheckpointReader.read(path)
    checkpoint.warnings.forEach(Terminal.warn)
    content = .graph(checkpoint.model)
    kind = checkpoint.kind.rawValue
    fileByteCount = checkpoint.weightsByteCount
    let weightsPath = checkpoint.weightsPath
    hash = { try SHA256.hash(fileAt: weightsPath) }
  }

  /// Holds a model that is in no file; messages call it `name`.
  init(_ model: CLIPModel, name: String) {
    path = name
    content = .graph(model)
    kind = "clipc-model"
    fileByteCount = 0
    hash = { "" }
  }

  /// SHA-256 of the model file, or of a checkpoint's weights file, in hexadecimal.
  func sha256() throws -> String { try hash() }

  /// The mapping of `path` where it is a runtime file; nil where it is something else.
  private static func runtimeFile(_ path: String) throws -> MappedFile? {
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
      throw Failure(.missingInput, "\(path): no such file or folder")
    }
    guard !isFolder.boolValue else { return nil }
    let mapped = try MappedFile(path: path)
    return RuntimeBytes.isRuntimeFile(mapped.bytes) ? mapped : nil
  }

  /// The model as a graph, which `command` needs.
  func graphModel(for command: String) throws -> CLIPModel {
    guard case .graph(let model) = content else {
      throw Failure(
        .malformedInput,
        "\(path): \(command) needs a checkpoint or clipc model, found a runtime file")
    }
    return model
  }

  /// The model as a runtime file, made in memory where it is none.
  func runtimeBytes() throws -> RuntimeBytes {
    switch content {
    case .runtime(let bytes): return bytes
    case .graph(let model):
      return RuntimeBytes(try RuntimeFile(model, towers: towers(model)).serialized())
    }
  }

  private func towers(_ model: CLIPModel) -> Set<ModelFormat.Tower> {
    Set(
      ModelFormat.Tower.allCases.filter {
        model.graph.output(named: $0 == .image ? "image_embeds" : "text_embeds") != nil
      })
  }

  /// An encoder: the interpreter for a runtime file, otherwise the float executor.
  func encoder(threadCount: Int) throws -> any Encoder {
    switch content {
    case .graph(let model): return try GraphEncoder(model.graph, threadCount: threadCount)
    case .runtime(let bytes):
      return try RuntimeEncoder(try reader(bytes), owner: bytes, threadCount: threadCount)
    }
  }

  private func reader(_ bytes: RuntimeBytes) throws -> ModelReader {
    do { return try ModelReader(bytes.bytes) } catch {
      throw Failure(.malformedInput, "\(path): \(error)")
    }
  }

  /// Channels, rows and columns of the images that the image tower takes.
  func imageExtents() throws -> [Int] {
    let extents: [Int]?
    switch content {
    case .graph(let model): extents = model.graph.imageExtents
    case .runtime(let bytes):
      let reader = try reader(bytes)
      let info = reader.info
      extents =
        reader.imageProgram == nil
        ? nil : [info.imageChannelCount, info.imageHeight, info.imageWidth]
    }
    guard let extents else {
      throw Failure(.malformedInput, "\(path): the model has no image tower")
    }
    return extents
  }

  /// The figures of the model.
  func summary() throws -> ModelSummary {
    switch content {
    case .graph(let model): return ModelSummary(model.graph)
    case .runtime(let bytes):
      guard let metadata = try reader(bytes).section(.metadata),
        let summary = try? JSONDecoder().decode(ModelSummary.self, from: Data(metadata))
      else {
        throw Failure(.malformedInput, "\(path): the metadata section is missing or damaged")
      }
      return summary
    }
  }

  /// Bytes that the interpreter needs for one image or one text.
  var memoryPlan: Int? {
    guard case .runtime(let bytes) = content, let reader = try? reader(bytes) else { return nil }
    let limits = Limits(imageCount: 1, textCount: 1, tokenCount: reader.info.contextLength)
    return try? Interpreter.arenaByteCount(ClipRuntime.Model(reader), limits: limits)
  }

  /// The tokenizer that the model carries.
  func tokenizer() throws -> Tokenizer {
    let encoded: [UInt8]?
    switch content {
    case .graph(let model): encoded = model.tokenizer
    case .runtime(let bytes): encoded = try reader(bytes).section(.tokenizer).map(Array.init)
    }
    guard let encoded else {
      throw Failure(
        .malformedInput, "\(path): the model carries no tokenizer (vocab.json and merges.txt)")
    }
    do { return try Tokenizer(encoded: encoded) } catch {
      throw Failure(.malformedInput, "\(path): the tokenizer is damaged: \(error)")
    }
  }

  /// The image preprocessing that the model carries.
  func imageTransform() throws -> ImageTransform {
    let encoded: [UInt8]?
    switch content {
    case .graph(let model): encoded = model.imageTransform
    case .runtime(let bytes): encoded = try reader(bytes).section(.imageTransform).map(Array.init)
    }
    guard let encoded else {
      throw Failure(.malformedInput, "\(path): the model carries no image preprocessing")
    }
    do { return try ImageTransform(encoded: encoded) } catch {
      throw Failure(.malformedInput, "\(path): the image preprocessing is damaged: \(error)")
    }
  }
}
