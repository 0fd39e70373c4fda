import GraphIR

extension OperatorRegistry {
  /// Every operator of this module.
  package static let standard = OperatorRegistry([
    ActivationGradient.self, Add.self, AddPositions.self, Attention.self, AttentionGradient.self,
    Broadcast.self, Clamp.self, ContractAxis.self, ContractLeading.self, Diagonal.self,
    DropFirstToken.self, Embedding.self, EmbeddingGradient.self, ErrorFunction.self,
    Exponential.self, FakeQuantize.self, FakeQuantizeWeight.self, Fill.self, FoldPatches.self,
    GELU.self, Gate.self, IsPositive.self, L2Normalize.self, LayerNorm.self,
    LayerNormGradient.self, Linear.self, LinearTransposed.self, LogSoftmax.self,
    MagnitudeAwareGate.self, MaskedLayerNorm.self, MatMul.self, MergeHeads.self, Multiply.self,
    Offset.self, PlaceDiagonal.self, PlaceEndToken.self, PlaceToken.self, PrependToken.self,
    QuickGELU.self, ReciprocalSquareRoot.self, Scale.self, ScaleAxis.self, SelectEndToken.self,
    SelectToken.self, Sigmoid.self, Softmax.self, SplitHeads.self, Sum.self, SumPositions.self,
    UnfoldPatches.self,
  ])
}
