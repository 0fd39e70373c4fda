import CClip
import ModelFormat

/// A model in a file that is mapped into memory: read-only, its pages shared with whoever maps it too.
///
/// Everything made from ``model`` borrows the mapping, which lasts as long as this object; the file
/// must not change meanwhile.
public final class MappedModel: @unchecked Sendable {
  /// The model.
  public let model: Model
  private let bytes: UnsafeRawBufferPointer

  /// Maps and validates the runtime file at `path`.
  ///
  /// - Throws: ``MappingError`` when it cannot be mapped or is no runtime file.
  public init(
    path: String, integrity: ModelReader.Integrity = .tables
  ) throws(MappingError) {
    var (start, count) = (UnsafeRawPointer?.none, 0)
    guard clip_file_map(path, &start, &count) else {
      throw .unreadable(path: path, code: clip_file_error())
    }
    bytes = UnsafeRawBufferPointer(start: start, count: count)
    do {
      model = try Model(bytes, integrity: integrity)
    } catch {
      clip_file_unmap(start, count)
      throw .model(path: path, error)
    }
  }

  deinit { clip_file_unmap(bytes.baseAddress, bytes.count) }
}

/// Why a file was not mapped.
public enum MappingError: Error, Equatable {
  /// It cannot be opened, is no regular file, or cannot be mapped; `code` is the system's.
  case unreadable(path: String, code: Int32)
  /// It is no runtime file, or one that this code cannot run.
  case model(path: String, ModelError)
}

extension MappingError: CustomStringConvertible {
  /// One sentence: where and what.
  public var description: String {
    switch self {
    case .unreadable(let path, let code):
      "\(path): \(clip_file_error_message(code).map { String(cString: $0) } ?? "unreadable")"
    case .model(let path, let error): "\(path): \(error)"
    }
  }
}
