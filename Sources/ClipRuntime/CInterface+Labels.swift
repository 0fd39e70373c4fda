// swift-format-ignore-file: AlwaysUseLowerCamelCase

import CClip
import ModelFormat

/// Counts the labels, see `clipc.h`.
@c @implementation
public func clip_model_label_count(_ model: OpaquePointer?) -> Int {
  guard let model else { return 0 }
  return ModelBox.at(model).pointee.model.labels?.count ?? 0
}

/// Lends the name of a label, see `clipc.h`.
@c @implementation
public func clip_model_label_name(
  _ model: OpaquePointer?, _ index: Int
) -> UnsafePointer<CChar>? {
  guard let model, let labels = ModelBox.at(model).pointee.model.labels, index >= 0,
    index < labels.count
  else { return nil }
  return labels.nameBytes(index).baseAddress?.assumingMemoryBound(to: CChar.self)
}

/// Lends the embeddings of the labels, see `clipc.h`.
@c @implementation
public func clip_model_label_embeddings(_ model: OpaquePointer?) -> UnsafePointer<Float>? {
  guard let model else { return nil }
  return ModelBox.at(model).pointee.model.labels?.embeddings.baseAddress
}

/// Computes probabilities, see `clipc.h`.
@c @implementation
public func clip_classify(
  _ model: OpaquePointer?, _ images: UnsafePointer<Float>?, _ imageCount: Int,
  _ classes: UnsafePointer<Float>?, _ classCount: Int,
  _ probabilities: UnsafeMutablePointer<Float>?
) -> clip_status {
  guard let model, let images, let classes, let probabilities, imageCount >= 0, classCount >= 1
  else { return CLIP_STATUS_INVALID_ARGUMENT }
  let opened = ModelBox.at(model).pointee.model
  let width = opened.info.embeddingWidth
  let (imageFloats, imagesOverflow) = imageCount.multipliedReportingOverflow(by: width)
  let (classFloats, classesOverflow) = classCount.multipliedReportingOverflow(by: width)
  let (resultFloats, resultOverflow) = imageCount.multipliedReportingOverflow(by: classCount)
  guard !imagesOverflow, !classesOverflow, !resultOverflow else {
    return CLIP_STATUS_INVALID_ARGUMENT
  }
  let result = UnsafeMutableBufferPointer(start: probabilities, count: resultFloats)
  var span = result.mutableSpan
  do throws(RuntimeError) {
    try opened.classify(
      UnsafeBufferPointer(start: images, count: imageFloats).span,
      classes: UnsafeBufferPointer(start: classes, count: classFloats).span, into: &span)
    return CLIP_STATUS_OK
  } catch {
    return clip_status(error)
  }
}
